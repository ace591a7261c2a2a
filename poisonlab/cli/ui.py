"""``poisonlab ui``: the dashboard, from a checkout or from an installed package."""

import argparse
import os
import runpy
import sys

import poisonlab
from poisonlab.cli.terminal import chosen_engine
from poisonlab.runner.options import ENGINE, ENGINE_OPTIONS


def ui(options: argparse.Namespace) -> int:
    """Serve the pages until interrupted.

    ``app.py`` is run as a script from its own folder, where Streamlit finds ``.streamlit/config.toml`` beside it.
    """
    script = str(poisonlab.app_folder() / "app.py")
    os.environ[poisonlab.RESULTS] = str(options.results.expanduser().absolute())
    if options.port is not None:
        os.environ["STREAMLIT_SERVER_PORT"] = str(options.port)
    if options.address is not None:
        os.environ["STREAMLIT_SERVER_ADDRESS"] = options.address
    if options.host:
        os.environ["POISONLAB_HOSTS"] = ",".join(options.host)
    engine, settings = chosen_engine(options)
    os.environ[ENGINE] = engine
    os.environ[ENGINE_OPTIONS] = " ".join(settings)
    sys.argv = [script]  # Streamlit takes the launcher's place and arguments from there
    runpy.run_path(script, run_name="__main__")
    return 0
