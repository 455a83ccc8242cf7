"""Packaging: the folder ``src`` IS the package ``oamarl``.

torch is listed without a pin so that any build >= 2.6 which is there already is kept; ``make`` installs a
small one first on a machine that has none.
"""

import re
from pathlib import Path

from setuptools import find_namespace_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+?)"', (HERE / "src/__init__.py").read_text(encoding="utf-8"))[1]
README = HERE / "README.md"
#: runs the tutorials
NOTEBOOKS = ["nbclient>=0.10", "nbformat>=5.10", "ipykernel>=6.29"]
#: the documentation site; equations are made MathML, which needs no script
DOCS = ["mkdocs-material>=9.6", "mkdocs>=1.6,<2", "mkdocstrings[python]>=0.28", "latex2mathml>=3.77"]

setup(
    name="oamarl",
    version=VERSION,
    description="Multi-agent reinforcement learning with off-agent trust-region methods (OAPPO, OATRPO)",
    long_description=README.read_text(encoding="utf-8") if README.exists() else "",
    long_description_content_type="text/markdown",
    author="The oamarl authors",
    license="MIT",
    license_files=["LICENSE"],
    project_urls={
        "OAPPO and OATRPO (paper)": "https://doi.org/10.24963/ijcai.2024/420",
        "HATRPO and HAPPO (paper)": "https://arxiv.org/abs/2109.11251",
        "SEAC (paper)": "https://arxiv.org/abs/2006.07169",
        "Policy reciprocity (paper)": "https://arxiv.org/abs/2304.05632",
    },
    keywords=[
        *("multi-agent reinforcement learning", "MARL", "off-agent learning", "trust region"),
        *("OAPPO", "OATRPO", "HAPPO", "HATRPO", "MAPPO", "QMIX", "SEAC", "EPyMARL"),
    ],
    classifiers=[
        "Development Status :: 4 - Beta",
        "Environment :: Console",
        "Intended Audience :: Science/Research",
        "Operating System :: MacOS",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: C",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3 :: Only",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Typing :: Typed",
    ],
    python_requires=">=3.10",
    package_dir={"oamarl": "src", "oamarl.docs": "docs", "oamarl.zoo": "zoo"},
    packages=[
        "oamarl",
        "oamarl.docs",
        "oamarl.zoo",
        *(f"oamarl.{name}" for name in find_namespace_packages("src", exclude=["config*", "*__pycache__*"])),
    ],
    package_data={
        "oamarl": ["py.typed", "modules/kernels/*.[ch]", "config/*.yaml", "config/*/*.yaml", "config/*/*/*.yaml"],
        # the pages that messages point to
        "oamarl.docs": ["*.md", "methods/*.md", "tutorials/*.ipynb", "images/*", "images/*/*"],
        # trained teams
        "oamarl.zoo": ["*/*"],
    },
    install_requires=[
        "torch>=2.6",
        "numpy>=1.26",
        "sacred>=0.8.7",
        "setuptools>=77.0.3,<81",  # sacred imports pkg_resources, which setuptools 81 dropped
        "pymongo>=4.6",
        "pyyaml>=6.0",
        "gymnasium>=1.1,<1.4",
        "lbforaging>=2.0",
        "rware>=2.0",
        "matplotlib>=3.8",
        "pillow>=10.1",
        "rich>=13.0",
        "filelock>=3.12",  # torch brings it
    ],
    extras_require={
        "pettingzoo": ["pettingzoo[butterfly,sisl]>=1.27", "mpe2>=1.1"],
        # the push of JaxMARL's own class is replaced, and JaxMARL needs Python 3.11
        "smax": ["jaxmarl>=0.2,<0.3; python_version >= '3.11'", "jax>=0.10; python_version >= '3.11'"],
        "mamujoco": ["gymnasium[mujoco]>=1.1,<1.4", "mujoco>=3.1"],
        # GPL: imported when its environment is built, never shipped
        "vmas": ["vmas>=1.5.2,<1.6"],
        # what Google Research Football needs of Python; `oamarl install football` builds its engine
        "football": ["gym==0.25.2", "six", "opencv-python", "absl-py"],
        "video": ["imageio-ffmpeg>=0.5"],
        "tensorboard": ["tensorboard>=2.15"],
        "wandb": ["wandb>=0.20"],
        "ray": ["ray>=2.40"],
        "optuna": ["optuna>=4.0"],
        "docs": DOCS,
        "notebooks": ["notebook>=7", *NOTEBOOKS],
        "dev": [
            *DOCS,
            *NOTEBOOKS,
            "twine>=6.0",
            "ruff>=0.8",
            "mypy>=1.13",
            "pytest>=8.0",
            "pytest-xdist>=3.6",
            "hypothesis>=6.100",
            "mongomock>=4.3",
            "tensorboard>=2.15",
            "wandb>=0.20",
            "pettingzoo[butterfly,sisl]>=1.27",
            "mpe2>=1.1",
            "jaxmarl>=0.2,<0.3; python_version >= '3.11'",
            "jax>=0.10; python_version >= '3.11'",
            "ray>=2.40",
            "optuna>=4.0",
            "gymnasium[mujoco]>=1.1,<1.4",
            "mujoco>=3.1",
            "vmas>=1.5.2,<1.6",
            "types-PyYAML",
        ],
    },
    entry_points={"console_scripts": ["oamarl = oamarl.main:main"]},
)
