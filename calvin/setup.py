"""The CALVIN play table: `import dynaguide_calvin`."""

from setuptools import find_packages, setup

setup(
    name="dynaguide-calvin",
    version="0.1.0",
    description="CALVIN's play table: simulator, scripted play, behaviour detector",
    license="MIT",
    package_dir={"": "."},  # makes an editable install a plain path entry
    packages=find_packages(include=["dynaguide_calvin", "dynaguide_calvin.*"]),
    package_data={"dynaguide_calvin": ["py.typed"]},
    entry_points={"dynaguide.environments": ["calvin = dynaguide_calvin"]},
    python_requires=">=3.10",
    install_requires=["dynaguide", "gymnasium>=1.1", "moderngl", "pybullet>=3.2.5"],
)
