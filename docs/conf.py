"""How Sphinx builds the documentation: ci/docs. Nothing is fetched."""

import dak_diff

project = "dak_diff"
author = "The dak_diff developers"
copyright = author
version = release = dak_diff.__version__

extensions = ["myst_nb", "numpydoc", "sphinx.ext.autodoc", "sphinx.ext.autosummary"]
exclude_patterns = ["examples", "upstream"]
html_theme = "furo"
html_title = "dak_diff"
html_static_path = ["_static"]
html_css_files = ["tables.css"]

# Links between pages and to their sections; every section can be linked to.
myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence", "deflist"]

# Notebooks are run at every build; what they raise or warn of fails it.
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 300
nb_execution_in_temp = True  # pages write files
nb_merge_streams = True

autosummary_generate = True
autodoc_typehints = "none"  # numpydoc's sections say the types
numpydoc_show_class_members = False
numpydoc_xref_param_type = False
