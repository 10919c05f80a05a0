# What the experiments' scripts share; they source it. One results JSON a run: OUTPUT/EXPERIMENT/METHOD.json. A run that is finished is skipped, so a
# script can be stopped and started again. All methods see the same seeds.
#
#   AGENT, GC_AGENT, DYNAMICS    checkpoints (those that ship)        EPISODES, SEED    how many, from which seed on
#   OUTPUT                       folder                                METHODS           base dynaguide sampling position goal_conditioned
#   GUIDANCE                     flags for DynaGuide, such as "--scale 1.5 --ss 4 --alpha 30"; none: the experiment's own settings
#   FLAGS                        flags for every run, such as "--n_envs 4"
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

PYTHON=${PYTHON:-python}
AGENT=${AGENT:-checkpoints/calvin/policy.safetensors}
GC_AGENT=${GC_AGENT:-checkpoints/calvin/gc_policy.safetensors}
DYNAMICS=${DYNAMICS:-checkpoints/calvin/dynamics.safetensors}
EXPERIMENTS=${EXPERIMENTS:-calvin_exp_configs_examples}
EPISODES=${EPISODES:-50}
SEED=${SEED:-20000}
SAMPLES=${SAMPLES:-5}
POSITION_SCALE=${POSITION_SCALE:-3}
GUIDANCE=${GUIDANCE:-}
FLAGS=${FLAGS:-}
DEVICE=${DEVICE:-auto}
FINISHED=()

run() {  # run EXPERIMENT METHOD SCRIPT FLAGS...
    local json=$OUTPUT/$1/$2.json experiment=$1 script=$3
    shift 3
    if [ ! -f "$json" ]; then
        echo "== $json"
        mkdir -p "$(dirname "$json")"
        # shellcheck disable=SC2086  # FLAGS is several words
        "$PYTHON" "$script" --exp_setup_config "$EXPERIMENTS/$experiment.json" --json_path "$json.part" --n_rollouts "$EPISODES" --seed "$SEED" \
            --device "$DEVICE" "$@" $FLAGS
        mv "$json.part" "$json"
    fi
    FINISHED+=("$json")
}

compare() {  # compare EXPERIMENT: every method of METHODS
    local experiment=$1 method
    for method in $METHODS; do
        case $method in
            base) run "$experiment" base run_dynaguide.py --agent "$AGENT" ;;
            # shellcheck disable=SC2086
            dynaguide) run "$experiment" dynaguide run_dynaguide.py --agent "$AGENT" --guidance "$DYNAMICS" $GUIDANCE ;;
            sampling) run "$experiment" sampling run_sampling_baseline.py --agent "$AGENT" --guidance "$DYNAMICS" --num_samples "$SAMPLES" ;;
            position) run "$experiment" position run_dynaguide.py --agent "$AGENT" --direct_position_guidance --scale "$POSITION_SCALE" ;;
            goal_conditioned) run "$experiment" goal_conditioned run_dynaguide.py --agent "$GC_AGENT" ;;
            *) echo "error: unknown method $method" >&2; exit 2 ;;
        esac
    done
}

report() {  # the tables of everything that ran
    "$PYTHON" analyze_calvin_touch.py "${FINISHED[@]}" --markdown "$OUTPUT/table.md" --json_path "$OUTPUT/table.json"
    echo "table: $OUTPUT/table.md"
}
