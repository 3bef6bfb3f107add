# @title Finds posmlp_jax: the clone around this notebook, or what is installed, or else installs it
import importlib.metadata
import importlib.util
import re
import subprocess
import sys
from pathlib import Path

REPOSITORY = "https://github.com/OWNER/posmlp_jax"


def version(package):
    found = importlib.metadata.distributions(name=package)
    return next((each.version for each in found), None)


folders = [Path.cwd(), *Path.cwd().parents]
clone = next((each for each in folders if (each / "posmlp_jax/zoo").is_dir()), None)
if clone:
    sys.path.insert(0, str(clone))
    if not importlib.util.find_spec("flax"):
        raise SystemExit(f"This Python has no JAX and Flax. `make demo` in {clone} makes one, .venv.")
elif not importlib.util.find_spec("posmlp_jax"):
    print("Installing posmlp_jax, which takes a minute or two ...")
    before = version("jax")
    # A JAX that is new enough stays. An older one is replaced, for the same accelerator.
    plugins = {"cuda12": "jax-cuda12-plugin", "cuda13": "jax-cuda13-plugin", "tpu": "libtpu"}
    wanted = [f"posmlp-jax @ git+{REPOSITORY}"]
    wanted += [f"jax[{extra}]" for extra, plugin in plugins.items() if version(plugin)]
    command = [sys.executable, "-m", "pip", "install", "--quiet", *wanted]
    pip = subprocess.run(command, capture_output=True, text=True)
    if pip.returncode:
        reason = (re.findall(r"(?:fatal|ERROR): (.+)", pip.stderr) or ["pip failed"])[-1]
        raise SystemExit(f"posmlp_jax could not be installed; is there a network? {reason}")
    importlib.invalidate_caches()
    if before not in (None, version("jax")):
        print(f"The runtime's own JAX, {before}, was too old; {version('jax')} is in its place.")
        if "jax" in sys.modules:
            raise SystemExit("Restart the session (the old JAX is loaded), and run from here again.")

import jax

print(f"JAX {jax.__version__} on {len(jax.devices())} x {jax.devices()[0].device_kind}")
