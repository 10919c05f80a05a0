#!/usr/bin/env bash
# Pictures and films of every layout, as in the paper's Figure 7: denoising, trajectories and outcomes of base policy and guidance.
# A layout whose figures are there is skipped.
#
#   toy_squares_experiment/pymunk_qualitative_exps.sh
#   SETUPS=cube_blockade TARGET=blue toy_squares_experiment/pymunk_qualitative_exps.sh
set -euo pipefail
cd "$(dirname "$0")/.."

PYTHON=${PYTHON:-python}
AGENT=${AGENT:-${AGENTS:-checkpoints/block_touch/policy.safetensors}}
AGENT=${AGENT%% *}   # one policy is enough for pictures: the first of AGENTS
CLASSIFIER=${CLASSIFIER:-checkpoints/block_touch/classifier.safetensors}
OUTPUT=${OUTPUT:-results/block_touch/qualitative}
EPISODES=${EPISODES:-10}
SEED=${SEED:-1000}
TARGET=${TARGET:-blue}
GUIDANCE=${GUIDANCE:-}   # flags of classifier_guidance_pymunk.py
SETUPS=${SETUPS:-random early_decision late_decision cube_blockade around_the_column}
DEVICE=${DEVICE:-auto}

for setup in $SETUPS; do
    folder=$OUTPUT/$setup
    [ -f "$folder/overview.png" ] && continue
    echo "== $folder"
    mkdir -p "$folder"
    shared=(--agent "$AGENT" --setup "$setup" --target "$TARGET" --n_rollouts "$EPISODES" --seed "$SEED" --device "$DEVICE" --paths)
    "$PYTHON" toy_squares_experiment/classifier_guidance_pymunk.py "${shared[@]}" \
        --output_folder "$folder/base" --video_path "$folder/base.mp4"
    # shellcheck disable=SC2086  # GUIDANCE is several words
    "$PYTHON" toy_squares_experiment/classifier_guidance_pymunk.py "${shared[@]}" --guidance "$CLASSIFIER" $GUIDANCE \
        --output_folder "$folder/guided" --video_path "$folder/guided.mp4" --trace_path "$folder/guided/traces"
    "$PYTHON" figure_generation/block_touch.py "$folder/base/results.json" "$folder/guided/results.json" \
        --traces "$folder/guided/traces" --output "$folder"
done
