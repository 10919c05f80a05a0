#!/usr/bin/env bash
# Guidance strength x repeats x form on the random layout, and one figure of it all. A run that is finished is skipped.
#
#   toy_squares_experiment/pymunk_sweep.sh
#   EPISODES=50 SCALES="1 3 10" toy_squares_experiment/pymunk_sweep.sh
set -euo pipefail
cd "$(dirname "$0")/.."

PYTHON=${PYTHON:-python}
AGENT=${AGENT:-${AGENTS:-checkpoints/block_touch/policy.safetensors}}
AGENT=${AGENT%% *}
CLASSIFIER=${CLASSIFIER:-checkpoints/block_touch/classifier.safetensors}
OUTPUT=${OUTPUT:-results/block_touch/sweep}
EPISODES=${EPISODES:-50}
SEED=${SEED:-2000}
SCALES=${SCALES:-0.3 1 3 10 30}
TARGETS=${TARGETS:-blue red green yellow}
DEVICE=${DEVICE:-auto}
# One form a line: flags of classifier_guidance_pymunk.py
FORMS=${FORMS:-"--on clean_estimate
--on clean_estimate --candidates 1
--on clean_estimate --candidates 1 --cap 1
--on clean_estimate --candidates 1 --ss 4
--on clean_estimate --candidates 1 --ss 4 --renoise
--on noisy --candidates 1
--on noisy --candidates 1 --ss 4
--on noisy --candidates 1 --ss 4 --renoise
--on noisy --candidates 1 --ss 4 --published_clamp"}

FINISHED=()

# run NAME FLAGS...: one run, unless OUTPUT/NAME.json is there already
run() {
    local json=$OUTPUT/$1.json
    shift
    if [ ! -f "$json" ]; then
        echo "== $json"
        mkdir -p "$OUTPUT"
        "$PYTHON" toy_squares_experiment/classifier_guidance_pymunk.py --json_path "$json.part" \
            --agent "$AGENT" --n_rollouts "$EPISODES" --seed "$SEED" --device "$DEVICE" "$@"
        mv "$json.part" "$json"
    fi
    FINISHED+=("$json")
}

run base
while IFS= read -r form; do
    for scale in $SCALES; do
        for target in $TARGETS; do
            # shellcheck disable=SC2086  # a form is several words
            run "$(echo "$form" | tr -d -- '-' | tr ' ' '_')_scale_${scale}_$target" --guidance "$CLASSIFIER" --target "$target" --scale "$scale" $form
        done
    done
done <<<"$FORMS"

"$PYTHON" figure_generation/block_touch.py "${FINISHED[@]}" --sweep --output "$OUTPUT"
