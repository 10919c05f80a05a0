#!/usr/bin/env bash
# Experiment 1 (ArticulatedParts): the eight articulated behaviours, every method, and the base policy in scenes where everything is random.
# Settings: see common.sh.
OUTPUT=${OUTPUT:-results/calvin/articulated_object}
METHODS=${METHODS:-base dynaguide sampling position goal_conditioned}
source "$(dirname "$0")/common.sh"
for behavior in ${BEHAVIORS:-button_on button_off switch_on switch_off drawer_open drawer_close door_left door_right}; do
    compare "$behavior"
done
METHODS=base compare control
report
