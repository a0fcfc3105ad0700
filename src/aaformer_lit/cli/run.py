"""How every entry point starts: Hydra composes the config, one function runs, and user errors become one message.

Hydra prints several lines and exits with 1 on any error. Here a mistake in config, data or checkpoint is one message and
exit code 2; anything else keeps its traceback. Processes that Lightning starts for further devices read the finished
config instead of composing it again, so that they neither make run directories of their own nor start a sweep anew.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.text import Text

from aaformer_lit.cli import processes
from aaformer_lit.cli.check import check_config
from aaformer_lit.cli.messages import known_error, user_message
from aaformer_lit.cli.paths import CONF_DIR
from aaformer_lit.cli.resolvers import is_sweep
from aaformer_lit.cli.run_lock import StillTrainingError, locked
from aaformer_lit.errors import AAformerError, ConfigError, RankError, StorageError
from aaformer_lit.utils.collector import imports_kept
from aaformer_lit.utils.files import write_text
from aaformer_lit.utils.identity import read_config
from aaformer_lit.utils.malloc import keep_freed_memory
from aaformer_lit.utils.text import plural

logger = logging.getLogger(__name__)
_JOB_CONFIG = "AAFORMER_JOB_CONFIG"
FAILURE = "failure.txt"


def run(function: Callable[[DictConfig], Any], config_name: str) -> None:
    """Run an entry point's function with the config that Hydra composes from the command line."""
    keep_freed_memory()
    logging.raiseExceptions = False  # a log that cannot be written, on a full disk say, is not worth a traceback
    try:
        if job_config := os.environ.get(_JOB_CONFIG):
            processes.run_further_process(
                lambda: _with_kernel(function, _load(Path(job_config))), Path(job_config).with_name(FAILURE)
            )
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
        said = Text.assemble(("error:", "bold red"), f" {_summary(error)}{message}")
        Console(stderr=True, soft_wrap=True).print(said)
        sys.exit(2)


def _summary(error: BaseException) -> str:
    """How many jobs of a sweep have failed, before the error of one; nothing where the error is not of a sweep's job."""
    job = getattr(known_error(error), "sweep_job", None)
    if job is None:
        return ""
    folder = Path(job).parent
    jobs, failed = (len(list(folder.glob(f"*/{name}"))) for name in ("config.yaml", FAILURE))
    return (
        f"{failed} of {plural(jobs, 'job')} in {folder} failed; {FAILURE} in the folder of each says why. One of them: "
    )


def _interrupted() -> NoReturn:
    Console(stderr=True, soft_wrap=True).print("interrupted. A training goes on with the same command and resume=auto.")
    sys.exit(130)


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
            with locked(run_dir) if "resume" in cfg else contextlib.nullcontext():
                with imports_kept():  # of the classes that the config names: torch, and most of the package
                    _check(cfg)
                if has_directory:
                    (run_dir / FAILURE).unlink(missing_ok=True)
                    # ranks that torchrun or SLURM start all write it
                    write_text(job_config, OmegaConf.to_yaml(cfg, resolve=True), shared=True)
                    os.environ[_JOB_CONFIG] = str(job_config)
                with processes.job_processes():
                    return _with_kernel(function, cfg)
        except Exception as error:
            known = known_error(error) or (processes.root_cause(error, run_dir / FAILURE) if has_directory else None)
            if known is None and (said := user_message(error)) is not None:  # Hydra would add a line of its own
                known = ConfigError(said)
            message = str(known) if known is not None else f"{type(error).__name__}: {error}"
            told = isinstance(known, RankError) and (run_dir / FAILURE).exists()  # by the rank that failed
            if has_directory and not told and not isinstance(known, StillTrainingError):
                says = f"{message}\n\n{''.join(traceback.format_exception(error))}"
                with contextlib.suppress(StorageError):  # the disk may be what failed
                    write_text(run_dir / FAILURE, says, shared=True)
            if is_sweep():
                logger.error("this job failed: %s", message)
            if known is None:
                raise
            if is_sweep():
                known.sweep_job = str(run_dir)  # type: ignore[attr-defined]  # travels with it from another process
                raise known from None  # for the launcher, which raises it once all jobs are done, in whatever process
            failures.append(known)
            return None
        finally:
            os.environ.pop(_JOB_CONFIG, None)
            if "wandb" in sys.modules:
                sys.modules["wandb"].finish()  # or the next job of a sweep would write into this one's W&B run

    return job


def _with_kernel(function: Callable[[DictConfig], Any], cfg: DictConfig) -> Any:
    """Run an entry point's function under the kernel that its config chooses (`ops.kernel`)."""
    if "ops" in cfg:
        from aaformer_lit.ops.trust import choose_kernel

        choose_kernel(cfg.ops.kernel)
    return function(cfg)


def _check(cfg: DictConfig) -> None:
    """Check a job's config against what takes its values, and against its entry point's own file."""
    config: Any = OmegaConf.to_container(cfg, resolve=True)
    own = read_config(CONF_DIR / f"{HydraConfig.get().job.config_name}.yaml")
    own.pop("defaults")
    check_config(config, own)


def _load(path: Path) -> DictConfig:
    _quiet_libraries()
    cfg = OmegaConf.load(path)
    assert isinstance(cfg, DictConfig)
    OmegaConf.set_struct(cfg, True)
    return cfg


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
