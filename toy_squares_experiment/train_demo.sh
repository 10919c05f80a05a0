#!/usr/bin/env bash
# Makes the models that ship in checkpoints/block_touch again, from nothing: data, base policy, end-state classifier, and their measurement.
#
#   toy_squares_experiment/train_demo.sh [OUTPUT]        OUTPUT: results/block_touch/train_demo
#
# Interrupt it and start it again: what is finished is skipped, a training goes on where it was. It needs 10 GB of memory and 1 GB of disk.
# PYTHON names the interpreter, MODELS where the models are put, ROLLOUTS and VALID_ROLLOUTS how many episodes are collected.
set -euo pipefail
cd "$(dirname "$0")/.."
OUT=${1:-results/block_touch/train_demo}
MODELS=${MODELS:-checkpoints/block_touch}
PYTHON=${PYTHON:-python}
ROLLOUTS=${ROLLOUTS:-32000}
VALID_ROLLOUTS=${VALID_ROLLOUTS:-2000}
mkdir -p "$OUT" "$MODELS"
source paper_experiments/once.sh

collect() {  # collect NAME SEED ROLLOUTS
    "$PYTHON" toy_squares_experiment/collect_scripted_data_pymunk.py --output_folder "$OUT/$1" --n_rollouts "$3" --seed "$2" \
        --dataset_obs --keep_only_successful --repeat_environment --image_size 64
}

once collect_train collect train 0 "$ROLLOUTS"
once collect_valid collect valid 1000 "$VALID_ROLLOUTS" # another seed: no layout is in both
once policy "$PYTHON" train_base_policy.py --config configs/diffusion_policy_image_munk_ddim_small.json \
    --dataset "$OUT/train/data.hdf5" --output "$OUT" --name policy --resume
once classifier "$PYTHON" toy_squares_experiment/train_end_state_classifier.py --exp_dir "$OUT/classifier" \
    --train_hdf5 "$OUT/train/data.hdf5" --test_hdf5 "$OUT/valid/data.hdf5" --num_epochs 60 --action_chunk_length 16 --noised --resume
once test_classifier "$PYTHON" toy_squares_experiment/test_end_state_classifier.py --exp_dir "$OUT/classifier_test" \
    --mixed_hdf5 "$OUT/valid/data.hdf5" --checkpoint "$OUT/classifier/model.safetensors"
for name in policy classifier; do
    install -m 644 "$OUT/$name/model.safetensors" "$MODELS/$name.safetensors"
done
echo "models: $MODELS/policy.safetensors $MODELS/classifier.safetensors"
