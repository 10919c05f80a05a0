#!/usr/bin/env bash
# Everything that the CALVIN experiments need, made from nothing with scripted players: play to learn from, other play to test on, guidance conditions,
# start poses, and the places for position guidance. `make calvin-data` runs it.
#
#   data_processing_calvin/make_calvin_data.sh [OUTPUT]        OUTPUT: results/calvin
#
# Interrupt it and start it again: what is finished is skipped, collecting goes on where it was.
# STARTS: random scenes and poses to play from, each behaviour that is possible there once; VALID_STARTS: others, for tests and conditions.
# THIRD_PERSON, EYE_IN_HAND: pixels a side of the pictures. PROCESSES: that collect.
# EXAMPLES: pictures a condition; they stand in the files' names, which the experiments know with 20.
# CONDITIONS: where conditions and start poses go; the experiments in calvin_exp_configs_examples/ look for them in checkpoints/calvin.
set -euo pipefail
cd "$(dirname "$0")/.."
OUT=${1:-results/calvin}
PYTHON=${PYTHON:-python}
STARTS=${STARTS:-1200}
VALID_STARTS=${VALID_STARTS:-120}
THIRD_PERSON=${THIRD_PERSON:-96}
EYE_IN_HAND=${EYE_IN_HAND:-64}
CONDITIONS=${CONDITIONS:-checkpoints/calvin}
EXAMPLES=${EXAMPLES:-20}
PROCESSES=${PROCESSES:-$(getconf _NPROCESSORS_ONLN)}
EXPERIMENTS=${EXPERIMENTS:-calvin_exp_configs_examples}
ARTICULATED="button_on button_off switch_on switch_off drawer_open drawer_close door_left door_right"
SCRIPTS=data_processing_calvin
mkdir -p "$OUT" "$CONDITIONS/conditions/underspecified"
source paper_experiments/once.sh

collect() {  # collect NAME SEED STARTS
    "$PYTHON" $SCRIPTS/collect_scripted_play.py --starts "$3" --per_start 7 --without red_lift blue_lift pink_lift \
        --third_person "$THIRD_PERSON" --eye_in_hand "$EYE_IN_HAND" --seed "$2" --processes "$PROCESSES" --dataset_path "$OUT/$1.hdf5"
}

combine() {  # combine OUTPUT BEHAVIORS...: the last frames of EXAMPLES episodes of each
    local output=$1
    shift
    "$PYTHON" $SCRIPTS/hdf5_combiner.py --inputs "${@/%/.hdf5}" --count "$EXAMPLES" --last 1 --output "$CONDITIONS/conditions/$output.hdf5"
}

conditions() {
    "$PYTHON" $SCRIPTS/split_behavioral_validation_datasets_calvin.py --dataset "$OUT/valid.hdf5" --output_folder "$OUT/by_behavior" --holdout "$EXAMPLES"
    local here=$OUT/by_behavior
    for behavior in $ARTICULATED red_displace blue_displace pink_displace; do
        combine "${behavior}_$EXAMPLES" "$here/$behavior"
    done
    combine "button_on_switch_on_$EXAMPLES" "$here/button_on" "$here/switch_on"
    combine "door_left_button_on_$EXAMPLES" "$here/door_left" "$here/button_on"
    combine "door_left_button_on_switch_on_$EXAMPLES" "$here/door_left" "$here/button_on" "$here/switch_on"
    combine "door_left_drawer_open_$EXAMPLES" "$here/door_left" "$here/drawer_open"
    combine neg_examples_door_drawer "$here/button_on" "$here/button_off" "$here/switch_on" "$here/switch_off"
    for behavior in $ARTICULATED; do
        "$PYTHON" $SCRIPTS/generate_underspecified_goals.py --behavior "$behavior" --count "$EXAMPLES" --seed 2000 \
            --third_person "$THIRD_PERSON" --eye_in_hand "$EYE_IN_HAND" --output "$CONDITIONS/conditions/underspecified/${behavior}_$EXAMPLES.hdf5"
        "$PYTHON" $SCRIPTS/generate_goal_positions.py --dataset "$here/$behavior.hdf5" --config "$EXPERIMENTS/$behavior.json"
    done
    "$PYTHON" $SCRIPTS/retrieve_initial_robot_states.py --dataset "$OUT/valid.hdf5" --where start --most 200 \
        --output "$CONDITIONS/robot_states_midpoint.json"
}

once play collect play 0 "$STARTS"
once valid collect valid 1000 "$VALID_STARTS" # another seed: no scene is in both
once split "$PYTHON" $SCRIPTS/split_train_val.py --dataset "$OUT/play.hdf5" --ratio 0.03
once conditions conditions
echo "data: $OUT/play.hdf5 $OUT/valid.hdf5 $OUT/by_behavior/mixed.hdf5"
echo "conditions and start poses: $CONDITIONS"
