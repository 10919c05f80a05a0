#!/usr/bin/env bash
# The models of the CALVIN experiments, from the data of data_processing_calvin/make_calvin_data.sh: patch encoders (one for the policies; one that also
# learns the episodes' labels, for outcomes), base policy, goal-conditioned policy, dynamics model, and its health. `make calvin-train` runs it.
#
#   paper_experiments/train_calvin.sh [OUTPUT]        OUTPUT: results/calvin, where the data is
#
# Interrupt it and start it again: what is finished is skipped, a training goes on where it was. MODELS: where the trained models are put.
# FLAGS: for every training, such as --debug, which stops each after ten steps.
# SIZE=small (two CPU cores) or gpu (a GPU: DINOv2's patches, the paper's transformer, ResNet policies, pictures of 200 and 84 pixels).
set -euo pipefail
cd "$(dirname "$0")/.."
OUT=${1:-results/calvin}
PYTHON=${PYTHON:-python}
MODELS=${MODELS:-checkpoints/calvin}
SIZE=${SIZE:-small}
DEVICE=${DEVICE:-auto}
FLAGS=${FLAGS:-}
mkdir -p "$OUT" "$MODELS"
source paper_experiments/once.sh

policy() {  # policy NAME CONFIG FLAGS...
    "$PYTHON" train_base_policy.py --config "configs/$2.json" --dataset "$OUT/play.hdf5" --output "$OUT" --name "$1" --device "$DEVICE" --resume $FLAGS "${@:3}"
}

dynamics() {  # dynamics FLAGS...
    "$PYTHON" train_dynaguide.py --exp_dir "$OUT/dynamics" --train_hdf5 "$OUT/play.hdf5" --test_hdf5 "$OUT/by_behavior/mixed.hdf5" \
        --action_dim 7 --proprio_key proprio --proprio_dim 15 --proprio_angles 3 4 5 --action_chunk_length 16 --noised --device "$DEVICE" --resume $FLAGS "$@"
}

encoder() {  # encoder NAME FLAGS...
    "$PYTHON" train_patch_encoder.py --dataset "$OUT/play.hdf5" --cameras third_person eye_in_hand --image_size 64 --channels 16 32 64 --merge 2 \
        --output "$OUT/$1" --device "$DEVICE" --resume $FLAGS "${@:2}"
}

if [ "$SIZE" = small ]; then
    once encoder encoder encoder --steps 3000
    once outcome_encoder encoder outcome_encoder --labels --steps 2500
    once policy policy policy diffusion_policy_image_calvin_ddim_patches --encoder "$OUT/encoder/model.safetensors"
    once dynamics dynamics --cameras third_person eye_in_hand --encoder "$OUT/outcome_encoder/model.safetensors" --size small --decoder_width 32 \
        --num_epochs 40 --batch_size 48 --learning_rate 6e-4 --schedule cosine
    once gc_policy policy gc_policy diffusion_policy_image_calvin_ddim_gc_patches --encoder "$OUT/encoder/model.safetensors"
else
    once policy policy policy diffusion_policy_image_calvin_ddim
    once dynamics dynamics --cameras third_person --num_epochs 6000 --batch_size 16
    once gc_policy policy gc_policy diffusion_policy_image_calvin_ddim_gc
fi
once health "$PYTHON" test_dynaguide_embedding.py --exp_dir "$OUT/health" --good_hdf5 "$OUT/by_behavior/switch_on.hdf5" \
    --mixed_hdf5 "$OUT/by_behavior/mixed.hdf5" --checkpoint "$OUT/dynamics/model.safetensors" --key switch_on --device "$DEVICE"
for name in policy gc_policy; do
    "$PYTHON" paper_experiments/ship_checkpoint.py "$OUT/$name/model.safetensors" "$MODELS/$name.safetensors"
done
install -m 644 "$OUT/dynamics/model.safetensors" "$MODELS/dynamics.safetensors"
echo "models: $MODELS/policy.safetensors $MODELS/gc_policy.safetensors $MODELS/dynamics.safetensors"
