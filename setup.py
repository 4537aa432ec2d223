"""Installs ragcun from settings.ini, which is also what nbdev reads."""
from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup

here = Path(__file__).parent
config = ConfigParser(delimiters=["="])
config.read(here / "settings.ini", encoding="utf-8")
cfg = config["DEFAULT"]
extras = {key.removesuffix("_requirements"): value.split() for key, value in cfg.items()
          if key.endswith("_requirements")}
readme = here / "README.md"

setup(
    name=cfg["lib_name"],
    version=cfg["version"],
    description=cfg["description"],
    long_description=readme.read_text(encoding="utf-8") if readme.exists() else cfg["description"],
    long_description_content_type="text/markdown",
    url=cfg["git_url"],
    author=cfg["author"],
    author_email=cfg["author_email"],
    license="Apache-2.0",
    packages=find_packages(include=["ragcun*"]),
    package_data={"": ["*.pyi"], "ragcun": ["py.typed"], "ragcun.integrations": ["page/*"]},
    include_package_data=True,
    python_requires=">=" + cfg["min_python"],
    install_requires=cfg["requirements"].split(),
    extras_require=extras,
    entry_points={"console_scripts": cfg["console_scripts"].split("\n"),
                  "nbdev": [f"{cfg['lib_name']}={cfg['lib_path']}._modidx:d"]},
    keywords=cfg["keywords"].split(),
    zip_safe=False,
)
