#!/usr/bin/env bash
# The experiment of the paper's appendix A.1: five layouts x base policy, guidance and sampling x the colours to seek, the same seeds for all.
# Writes one results JSON a run, then table.md and table.json. A run that is finished is skipped, so this can be stopped and started again.
#
#   toy_squares_experiment/pymunk_exp.sh
#   AGENTS="results/seed0/model.safetensors results/seed1/model.safetensors" OUTPUT=results/a1 EPISODES=50 toy_squares_experiment/pymunk_exp.sh
set -euo pipefail
cd "$(dirname "$0")/.."

PYTHON=${PYTHON:-python}
AGENTS=${AGENTS:-checkpoints/block_touch/policy.safetensors}
CLASSIFIER=${CLASSIFIER:-checkpoints/block_touch/classifier.safetensors}
OUTPUT=${OUTPUT:-results/block_touch/experiment}
EPISODES=${EPISODES:-100}
SEED=${SEED:-1000}
SAMPLES=${SAMPLES:-5}
GUIDANCE=${GUIDANCE:-}   # flags of classifier_guidance_pymunk.py, such as "--scale 3 --ss 4"; none: its defaults
SETUPS=${SETUPS:-random early_decision late_decision cube_blockade around_the_column}
DEVICE=${DEVICE:-auto}

FINISHED=()

# run SCRIPT NAME FLAGS...: one run, unless OUTPUT/NAME.json is there already
run() {
    local script=$1 json=$OUTPUT/$2.json
    shift 2
    if [ ! -f "$json" ]; then
        echo "== $json"
        mkdir -p "$(dirname "$json")"
        "$PYTHON" "toy_squares_experiment/$script" --json_path "$json.part" --n_rollouts "$EPISODES" --seed "$SEED" --device "$DEVICE" --paths "$@"
        mv "$json.part" "$json"
    fi
    FINISHED+=("$json")
}

# the colours to seek: the last two layouts are built around their target, which is blue as in the paper
targets() {
    case $1 in
        cube_blockade | around_the_column) echo blue ;;
        *) echo blue red green yellow ;;
    esac
}

number=0
for agent in $AGENTS; do
    for setup in $SETUPS; do
        name=policy$number/$setup
        first=(--agent "$agent" --setup "$setup")
        built_around=()
        [ "$(targets "$setup")" = blue ] && built_around=(--target blue)
        run classifier_guidance_pymunk.py "$name/base" "${first[@]}" ${built_around[@]+"${built_around[@]}"}
        for target in $(targets "$setup"); do
            steered=("${first[@]}" --guidance "$CLASSIFIER" --target "$target")
            # shellcheck disable=SC2086  # GUIDANCE is several words
            run classifier_guidance_pymunk.py "$name/guided_$target" "${steered[@]}" $GUIDANCE
            run rejection_sampling_pymunk.py "$name/sampling_$target" "${steered[@]}" --num_samples "$SAMPLES"
        done
        [ "$setup" = random ] || continue
        for avoided in blue red green yellow; do
            # shellcheck disable=SC2086
            run classifier_guidance_pymunk.py "$name/avoid_$avoided" "${first[@]}" --guidance "$CLASSIFIER" --avoid "$avoided" $GUIDANCE
        done
    done
    number=$((number + 1))
done

"$PYTHON" toy_squares_experiment/analyze_pymunk_touch.py "${FINISHED[@]}" --markdown "$OUTPUT/table.md" --json_path "$OUTPUT/table.json"
echo "table: $OUTPUT/table.md"
