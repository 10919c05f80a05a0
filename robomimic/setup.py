"""The guided diffusion policy: `import dynaguide_robomimic`."""

from setuptools import find_packages, setup

setup(
    name="dynaguide-robomimic",
    version="0.1.0",
    description="The diffusion policy that DynaGuide steers, in robomimic's file formats",
    license="MIT",
    package_dir={"": "."},  # makes an editable install a plain path entry
    packages=find_packages(include=["dynaguide_robomimic", "dynaguide_robomimic.*"]),
    package_data={"dynaguide_robomimic": ["py.typed"]},
    entry_points={"dynaguide.environments": ["robomimic = dynaguide_robomimic.envs"]},
    python_requires=">=3.10",
    install_requires=["dynaguide", "gymnasium>=1.1", "pymunk>=7"],
    extras_require={"robomimic": ["robomimic"]},  # for the interoperability tests only
)
