#!/usr/bin/env bash
# Experiment 4 (MultiObjectives): several wanted behaviours at once, unwanted ones, and both. Settings: see common.sh.
OUTPUT=${OUTPUT:-results/calvin/multiple_behaviors}
METHODS=${METHODS:-base dynaguide sampling}
source "$(dirname "$0")/common.sh"
for experiment in button_on_switch_on door_left_button_on door_left_button_on_switch_on \
    avoid_drawer_open avoid_door_left avoid_door_left_drawer_open door_left_drawer_open_negs; do
    compare "$experiment"
done
report
