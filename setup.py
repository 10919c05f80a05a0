"""The method itself: `import dynaguide`. `pip install -e . -e robomimic` installs it together with the policy; `make install` does all of it."""

from setuptools import find_packages, setup

setup(
    name="dynaguide",
    version="0.1.0",
    description="Steer a frozen diffusion policy at inference time with the gradient of a score",
    license="MIT",
    package_dir={"": "core"},
    packages=find_packages("core"),
    package_data={"dynaguide": ["py.typed"]},
    python_requires=">=3.10",
    install_requires=[
        "accelerate>=1.0",
        "diffusers>=0.30",
        "einops",
        "gymnasium>=1.1",
        "h5py",
        "imageio",
        "imageio-ffmpeg",
        "jaxtyping",
        "matplotlib",
        "numpy",
        "psutil",
        "safetensors",
        "tensorboard",
        "torch>=2.4",
        "torchvision",  # with torch in one resolution, so that their versions match
        "tqdm",
    ],
    extras_require={"dev": ["beartype", "import-linter", "mypy", "pytest", "pytest-timeout", "pytest-xdist", "ruff"]},
)
