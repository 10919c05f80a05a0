#!/usr/bin/env bash
# Experiment 3 (UnderspecifiedObjectives): pictures in which one part is as wanted and everything else, the robot included, is random.
# Settings: see common.sh.
OUTPUT=${OUTPUT:-results/calvin/underspecified_objectives}
METHODS=${METHODS:-base dynaguide sampling goal_conditioned}
source "$(dirname "$0")/common.sh"
for behavior in button_on button_off switch_on switch_off drawer_open drawer_close door_left door_right; do
    compare "${behavior}_underspecified"
done
report
