"""Where the Hydra configs are: `conf/` of the checkout, or the copy that ships inside the installed wheel."""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]
_CHECKOUT = _PACKAGE.parents[1] / "conf"

CONF_DIR = _CHECKOUT if (_CHECKOUT / "train.yaml").is_file() else _PACKAGE / "conf"
