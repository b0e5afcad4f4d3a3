"""Sphinx's configuration: ``make docs``."""

import os
import sys
import warnings
from pathlib import Path

DOCS = Path(__file__).parent
ROOT = DOCS.parent
sys.path[:0] = [str(DOCS), str(ROOT / "examples")]
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("KERAS_BACKEND", "torch")
os.environ.setdefault("JAX_PLATFORMS", "cpu")

# Keras and MONAI use older ways of NumPy and PyTorch, which warn; the pages of examples would show it.
warnings.filterwarnings("ignore", "__array__ implementation", DeprecationWarning)
warnings.filterwarnings("ignore", "Using a non-tuple sequence", UserWarning)

import agnoreg

project = "agnoreg"
author = "The agnoreg developers"
copyright = author
version = release = agnoreg.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "numpydoc",
    "sphinx_design",
    "sphinx_copybutton",
    "sphinx_gallery.gen_gallery",
    "sphinx.ext.githubpages",
    "extensions.formulas",
    "extensions.generate",
]

source_suffix = {".rst": "restructuredtext", ".md": "markdown"}
exclude_patterns = ["_build", "generated/*.txt", "extensions"]
default_role = "py:obj"
nitpicky = True
#: Docstrings write arguments, and names beside them in a module, as they write public names.
nitpick_ignore_regex = [
    ("py:obj", r"_*[a-z0-9_]+|CPU_SLABS|Surfaces|ThinMoments|agnoreg\.functional|agnoreg\.evaluate\..*")
]
highlight_language = "python"

myst_enable_extensions = ["colon_fence", "dollarmath", "deflist", "attrs_inline"]
myst_heading_anchors = 3

autodoc_typehints = "none"
autodoc_member_order = "bysource"
numpydoc_show_class_members = False
numpydoc_xref_param_type = False

html_theme = "pydata_sphinx_theme"
html_math_renderer = "mathml"
html_title = f"agnoreg {version}"
html_static_path = ["_static"]
html_css_files = ["agnoreg.css"]
# A page that is alone in its section needs no list of the section.
html_sidebars = {page: [] for page in ("index", "quickstart", "metrics", "training", "adapters", "benchmarks")}
html_show_sourcelink = False
html_theme_options = {
    "show_toc_level": 2,
    "navigation_with_keys": False,
    "header_links_before_dropdown": 5,
    "footer_start": ["copyright"],
    "footer_end": [],
    "secondary_sidebar_items": ["page-toc"],
    "use_edit_page_button": False,
    "navbar_align": "left",
}

sphinx_gallery_conf = {
    "examples_dirs": [str(ROOT / "examples")],
    "gallery_dirs": ["gallery"],
    "filename_pattern": r"/plot_",
    "ignore_pattern": r"^(demo|picture|register_numpy)\.py$",
    "download_all_examples": False,
    "show_memory": False,
    "show_signature": False,
    "remove_config_comments": True,
    "min_reported_time": 10**6,
    "plot_gallery": os.environ.get("AGNOREG_GALLERY", "1") == "1",
    "write_computation_times": False,
    "within_subsection_order": "extensions.order.Order",
}
#: The report of the conformance suite and the tables of losses begin with a third level.
suppress_warnings = ["config.cache", "myst.header"]
