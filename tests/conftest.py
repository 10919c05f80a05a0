"""Shape annotations are checked while the tests run, and helpers beside this file can be imported."""

import sys
from pathlib import Path

import torch
from jaxtyping import install_import_hook

sys.path.insert(0, str(Path(__file__).parent))
torch.set_num_threads(1)
_hook = install_import_hook(["dynaguide", "dynaguide_robomimic", "dynaguide_calvin"], "beartype.beartype")
_hook.__enter__()
sys.path.insert(0, str(Path(__file__).parent / "dynaguide"))
sys.path.insert(0, str(Path(__file__).parent / "dynaguide_robomimic"))
