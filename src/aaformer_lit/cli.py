"""How every entry point starts: Hydra composes the config, one function runs, and user errors become one message.

Hydra prints several lines and exits with 1 on any error. Here a mistake in config, data or checkpoint is one message and
exit code 2; anything else keeps its traceback. Processes that Lightning starts for further devices read the finished
config instead of composing it again, so that they neither make run directories of their own nor start a sweep anew.
"""

from __future__ import annotations

import datetime
import difflib
import errno
import logging
import os
import re
import sys
import traceback
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, InstantiationException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationResolutionError, MissingMandatoryValue, OmegaConfBaseException
from rich.console import Console
from rich.table import Table

from aaformer_lit import ranks
from aaformer_lit.config_check import check_config
from aaformer_lit.errors import AAformerError, first_line
from aaformer_lit.heap import keep_freed_memory
from aaformer_lit.paths import CONF_DIR
from aaformer_lit.resolvers import is_sweep

logger = logging.getLogger(__name__)
# a file has no width: tables there are as wide as they need
console = Console(soft_wrap=True, width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else 160)
_JOB_CONFIG = "AAFORMER_JOB_CONFIG"
FAILURE = "failure.txt"
_USERS_ERRNO = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG}


def run(function: Callable[[DictConfig], Any], config_name: str) -> None:
    """Run an entry point's function with the config that Hydra composes from the command line."""
    keep_freed_memory()
    try:
        if job_config := os.environ.get(_JOB_CONFIG):
            ranks.run_further_rank(lambda: function(_load(Path(job_config))), Path(job_config).with_name(FAILURE))
            return
        os.environ["HYDRA_FULL_ERROR"] = "1"  # raise instead of print-and-exit: the errors are handled below
        failures: list[AAformerError] = []
        hydra.main(version_base="1.3", config_path=str(CONF_DIR), config_name=config_name)(_job(function, failures))()
        if failures:
            raise failures[0]
    except KeyboardInterrupt:
        _interrupted()
    except SystemExit as stop:
        # what Lightning makes of Ctrl-C: it ends the fit properly and exits with 1
        if isinstance(stop.__context__, KeyboardInterrupt):
            _interrupted()
        raise
    except Exception as error:
        message = user_message(error)
        if message is None:
            raise
        Console(stderr=True, soft_wrap=True).print(f"[bold red]error:[/] {_escape(message)}", highlight=False)
        sys.exit(2)


def _interrupted() -> NoReturn:
    Console(stderr=True, soft_wrap=True).print("interrupted. A training goes on with the same command and resume=auto.")
    sys.exit(130)


def user_message(error: BaseException) -> str | None:
    """The one message of an error that is the user's to fix, or None for a defect."""
    known = _known(error)
    if known is not None:
        return str(known)
    if isinstance(error, HydraException | OmegaConfBaseException):
        return _config_message(error)
    if isinstance(error, ValueError) and str(error).startswith("Config group override"):  # data=null, in Hydra's words
        return "a config group that is needed was set to null. See --help for the groups and their options."
    if isinstance(error, OSError) and error.errno in _USERS_ERRNO:
        where = error.filename or "a file"
        return (
            f"{where} cannot be used: {error.strerror}. Check paths.runs, paths.data, their rights and the disk's room."
        )
    return None


def _known(error: BaseException) -> AAformerError | None:
    """The error of ours behind an error: Hydra and Lightning wrap what they pass on."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, AAformerError):
        cause = cause.__cause__ or cause.__context__
    return cause


def _job(function: Callable[[DictConfig], Any], failures: list[AAformerError]) -> Callable[[DictConfig], Any]:
    """Wrap a job so that a user's mistake is kept for later: Hydra would print it its own way.

    A job of a sweep that is finished is skipped; one that fails says so in its `failure.txt`, and the sweep goes on.
    """

    def job(cfg: DictConfig) -> Any:
        _quiet_libraries()
        run_dir = Path(HydraConfig.get().runtime.output_dir)
        if is_sweep() and (run_dir / "metrics.json").exists():
            logger.info("finished already, skipped: %s", run_dir)
            return None
        job_config = run_dir / "config.yaml"
        has_directory = "run_dir" in cfg  # other entry points run where they were started
        try:
            check_config(_plain(cfg), _defaults())
            if has_directory:
                (run_dir / FAILURE).unlink(missing_ok=True)
                _write(job_config, OmegaConf.to_yaml(cfg, resolve=True))
                os.environ[_JOB_CONFIG] = str(job_config)
            with ranks.partners_of_one_job():
                return function(cfg)
        except Exception as error:
            known = _known(error) or (ranks.behind(error, run_dir / FAILURE) if has_directory else None)
            message = str(known) if known is not None else f"{type(error).__name__}: {error}"
            if has_directory:
                _write(run_dir / FAILURE, f"{message}\n\n{''.join(traceback.format_exception(error))}")
            if is_sweep():
                logger.error("this job failed: %s", message)
            if known is None:
                raise
            if is_sweep():
                raise known from None  # for the launcher, which raises it once all jobs are done, in whatever process
            failures.append(known)
            return None
        finally:
            os.environ.pop(_JOB_CONFIG, None)
            if "wandb" in sys.modules:
                sys.modules["wandb"].finish()  # or the next job of a sweep would write into this one's W&B run

    return job


def _plain(cfg: DictConfig) -> dict[str, Any]:
    content = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(content, dict)
    return {str(key): value for key, value in content.items()}


def _defaults() -> dict[str, Any]:
    """What the entry point's own file says, before anything is composed into it."""
    own = OmegaConf.to_container(OmegaConf.load(CONF_DIR / f"{HydraConfig.get().job.config_name}.yaml"))
    assert isinstance(own, dict)
    return {str(key): value for key, value in own.items() if key != "defaults"}


def _load(path: Path) -> DictConfig:
    _quiet_libraries()
    cfg = OmegaConf.load(path)
    assert isinstance(cfg, DictConfig)
    OmegaConf.set_struct(cfg, True)
    return cfg


def _write(path: Path, text: str) -> None:
    temporary = path.with_suffix(".tmp")
    temporary.write_text(text)
    temporary.replace(path)


def timestamp() -> str:
    """Now, for names of files and runs."""
    return datetime.datetime.now().strftime("%Y-%m-%d_%H-%M-%S")


def _config_message(error: BaseException) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    message = lines[0] if lines else type(error).__name__
    key = re.search(r"Could not override '([^']+)'|full_key: (\S+)", str(error))
    if isinstance(error, InstantiationException) and error.__cause__ is not None:
        return f"{key.group(2) if key else 'a config'} cannot be built: {first_line(error.__cause__)}"
    if isinstance(error, MissingMandatoryValue) and key:
        return f"{key.group(2)} is needed and was not given: add {key.group(2)}=VALUE. --help has examples."
    if isinstance(error, InterpolationResolutionError) and key:
        return (
            f"{key.group(2)}: {message[0].lower()}{message[1:]}. Use the full name of a key, as --cfg job shows them."
        )
    if key:
        message = f"unknown config key '{key.group(1) or key.group(2)}'."
    missing = re.search(r"Could not find '([^']+)'", message)
    if missing:
        group, _, option = missing.group(1).rpartition("/")
        options = sorted(p.stem for p in (CONF_DIR / group).glob("*.yaml") if not p.stem.startswith("_"))
        close = difflib.get_close_matches(option, options, n=1)
        hint = f" Did you mean {group}={close[0]}?" if close else ""
        message = f"there is no {group}={option}.{hint} Options: {', '.join(options)}."
    return f"{message} See --help for the groups and --cfg job for the composed config."


def _escape(text: str) -> str:
    return text.replace("[", "\\[")


def _quiet_libraries() -> None:
    """Hide the notices of libraries that a user can do nothing about."""
    warnings.filterwarnings("ignore", message=r".*does not have many workers.*")
    warnings.filterwarnings("ignore", message=r".*is smaller than the logging interval.*")
    warnings.filterwarnings("ignore", message=r"Total length of `list` across ranks is zero.*")  # no validation
    warnings.filterwarnings("ignore", message=r"Experiment logs directory .* exists and is not empty.*")
    warnings.filterwarnings("ignore", message=r"Checkpoint directory .* exists and is not empty.*")
    # of the first rank alone
    warnings.filterwarnings("ignore", message=r"It is recommended to use `self.log\('assign/.*")
    warnings.filterwarnings("ignore", message=r".*isinstance\(treespec, LeafSpec\).*")
    for name in ("lightning.pytorch.utilities.rank_zero", "lightning.pytorch.accelerators.cuda"):
        logging.getLogger(name).setLevel(logging.WARNING)


def choices() -> dict[str, Any]:
    """The option chosen in each config group of this job; empty where the config was not composed by Hydra."""
    if not HydraConfig.initialized():
        return {}
    return {k: v for k, v in HydraConfig.get().runtime.choices.items() if not str(k).startswith("hydra/")}


def print_results(metrics: Mapping[str, float], run_dir: Path) -> None:
    """A small table of the test metrics, and where everything was written."""
    table = Table(title=None)
    for column in ("tokens", "mAP", "Rank-1", "Rank-5", "Rank-10", "mINP"):
        table.add_column(column, justify="left" if column == "tokens" else "right")
    for key in metrics:
        subset = re.fullmatch(r"(test/(?:.+/)?)mAP(_(?!trapezoid).+)?", key)
        if subset:
            prefix, suffix = subset.group(1), subset.group(2) or ""
            names = ("mAP", "rank1", "rank5", "rank10", "mINP")
            values = [metrics.get(f"{prefix}{name}{suffix}") for name in names]
            label = f"{prefix.removeprefix('test/')}{suffix.removeprefix('_') or 'all'}"
            table.add_row(label, *("-" if v is None else f"{100 * v:.1f}" for v in values))
    console.print(table)
    console.print(f"written to {run_dir}:")
    for path in sorted(p for p in run_dir.rglob("*") if p.is_file() and not p.name.startswith(".")):
        if ".hydra" not in path.parts:
            console.print(f"  {path.relative_to(run_dir)}", highlight=False)
