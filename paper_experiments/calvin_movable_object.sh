#!/usr/bin/env bash
# Experiment 2 (MovableObjects): the three cubes, randomly arranged on the table. Settings: see common.sh.
OUTPUT=${OUTPUT:-results/calvin/movable_object}
METHODS=${METHODS:-base dynaguide sampling goal_conditioned}
source "$(dirname "$0")/common.sh"
for behavior in red_displace blue_displace pink_displace; do
    compare "$behavior"
done
report
