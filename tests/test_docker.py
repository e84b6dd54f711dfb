"""The files for containers fit the project: its locks, commands, variables, routes and package. No engine is needed."""

import fnmatch
import http.client
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from nano_llm import checkpoint
from nano_llm.cli.main import COMMANDS, main
from nano_llm.config.compose import compose_config
from nano_llm.data.tokenizer import Tokenizer
from nano_llm.serving.limits import Limits
from wheels import build, contents

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
TARGETS = ("cpu", "cuda")
KEY = "a-key-of-ours"
SECONDS = 120
"""What anything here may take at most; all of it takes moments."""


@dataclass(frozen=True)
class Stage:
    """A stage of a Dockerfile."""

    base: str
    """The name of another stage, or an image."""
    instructions: list[tuple[str, str]] = field(default_factory=list)
    """Name and what follows it, on one line."""


def instructions(text: str) -> list[tuple[str, str]]:
    """Return what a Dockerfile tells to do: continued lines joined, comments left out, also those in between."""
    kept = "\n".join(line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#"))
    assert "<<" not in kept, "this reads no here-documents"
    lines = [" ".join(line.split()) for line in re.sub(r"\\\n", " ", kept).splitlines()]
    return [(name.upper(), rest) for name, _, rest in (line.partition(" ") for line in lines)]


def read_dockerfile(text: str) -> tuple[dict[str, str], dict[str, Stage]]:
    """Return the build arguments before the first stage, with their defaults, and the stages in their order."""
    arguments: dict[str, str] = {}
    stages: dict[str, Stage] = {}
    for name, rest in instructions(text):
        if name == "FROM":
            base, as_, stage = rest.split()
            assert as_ == "AS"
            stages[stage] = Stage(base)
        elif stages:
            stages[[*stages][-1]].instructions.append((name, rest))
        else:
            assert name == "ARG"
            arguments |= [rest.split("=", 1)]
    return arguments, stages


ARGUMENTS, STAGES = read_dockerfile((ROOT / "Dockerfile").read_text(encoding="utf-8"))


def lineage(stage: str) -> list[str]:
    """Return a stage and those that it is built upon, the first one first."""
    base = STAGES[stage].base
    return [*(lineage(base) if base in STAGES else []), stage]


def told(stage: str, instruction: str) -> list[str]:
    """Return what a stage and those below it say of one kind, in order."""
    return [rest for one in lineage(stage) for name, rest in STAGES[one].instructions if name == instruction]


def exec_form(text: str) -> list[str]:
    words = json.loads(text)
    assert isinstance(words, list)
    assert all(isinstance(word, str) for word in words)
    return words


def variables(stage: str) -> dict[str, str]:
    """Return what the ENV of a stage and of those below it set."""
    return {name: value for rest in told(stage, "ENV") for name, value in re.findall(r'(\w+)=("[^"]*"|\S+)', rest)}


def health_check() -> list[str]:
    [check] = told("cpu", "HEALTHCHECK")
    return exec_form(check[check.index("CMD") + len("CMD ") :])


def context() -> set[str]:
    """Return the files that an engine is sent, as .dockerignore has it: nothing but what it names again."""
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    everything, *patterns = [line for line in lines if line and not line.startswith("#")]
    assert everything == "*"
    files: set[str] = set()
    for pattern in patterns:
        if pattern.startswith("!"):
            named = ROOT / pattern.removeprefix("!")
            assert named.exists(), f".dockerignore names {pattern}, which is not there"
            below = named.rglob("*") if named.is_dir() else [named]
            files |= {path.relative_to(ROOT).as_posix() for path in below if path.is_file()}
        else:
            name = pattern.removeprefix("**/")
            files = {file for file in files if not any(fnmatch.fnmatch(part, name) for part in file.split("/"))}
    return files


def read_compose(name: str) -> dict[str, Any]:
    """Return a compose file; of mappings that are merged by ``<<`` the nearer value counts, as engines have it."""
    read = yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))
    assert isinstance(read, dict)
    return read


COMPOSE, GPU = read_compose("compose.yaml"), read_compose("compose.gpu.yaml")
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]


def interpolated(words: list[str]) -> list[str]:
    """Return words as compose hands them over where no variable is set."""
    return [re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", word) for word in words]


def command(service: str) -> list[str]:
    """Return what a service carries out: entry point and command."""
    given = SERVICES[service]
    return interpolated([*given.get("entrypoint", exec_form(told("cpu", "ENTRYPOINT")[-1])), *given["command"]])


# The Dockerfile.


def test_continued_lines_are_joined_and_comments_between_them_left_out() -> None:
    text = '# syntax=x\nARG A=b\n\nFROM ${A} AS one\nRUN a && \\\n  # why\n  b\nCMD ["c"]\nFROM one AS two\n'
    assert read_dockerfile(text) == (
        {"A": "b"},
        {"one": Stage("${A}", [("RUN", "a && b"), ("CMD", '["c"]')]), "two": Stage("one")},
    )


def test_the_slim_image_is_what_is_built_if_nothing_is_asked() -> None:
    assert set(TARGETS) < STAGES.keys()
    assert [*STAGES][-1] == "cpu"


def test_every_stage_begins_with_the_base_that_the_builder_chooses() -> None:
    for stage in STAGES:
        assert STAGES[lineage(stage)[0]].base == "${BASE}"
    image, _, version = ARGUMENTS["BASE"].partition(":")
    assert image == "python"
    assert SpecifierSet(PROJECT["project"]["requires-python"]).contains(version.removesuffix("-slim"))


@pytest.mark.parametrize("target", TARGETS)
def test_nobody_is_root_in_an_image(target: str) -> None:
    [user] = told(target, "USER")
    assert STAGES[target].instructions[-1] == ("USER", user), "what follows would not be root's any more"
    number, group = user.split(":")
    assert int(number) > 0
    [made] = [rest for rest in told(target, "RUN") if "useradd" in rest]
    assert f"--uid {number} " in made
    assert f"--gid {group} " in made


@pytest.mark.parametrize("target", TARGETS)
def test_images_obey_signals_and_take_arguments(target: str) -> None:
    assert told(target, "STOPSIGNAL") == ["SIGTERM"]
    assert [exec_form(rest) for rest in told(target, "ENTRYPOINT")] == [["nano-llm"]]
    [default] = [exec_form(rest) for rest in told(target, "CMD")]
    assert default[0] in COMMANDS


@pytest.mark.parametrize("target", TARGETS)
def test_data_caches_and_runs_are_volumes_that_any_user_may_write_to(target: str) -> None:
    [volumes] = [exec_form(rest) for rest in told(target, "VOLUME")]
    [made] = [rest for rest in told(target, "RUN") if "--mode 1777" in rest]
    assert volumes == made.split("--mode 1777 ")[1].split() == ["/cache", "/data", "/outputs"]
    places = [told(target, "WORKDIR")[-1], *(value for value in variables(target).values() if value.startswith("/"))]
    for place in places:
        own_files = place == variables(target)["PATH"]
        assert own_files or any(PurePosixPath(place).is_relative_to(volume) for volume in volumes)


def test_variables_of_ours_are_ones_that_the_code_reads() -> None:
    read = {
        name
        for folder, pattern in (("src", "*.py"), ("conf", "*.yaml"))
        for path in (ROOT / folder).rglob(pattern)
        for name in re.findall(r"NANO_LLM_\w+", path.read_text(encoding="utf-8"))
    }
    given = {*variables("cpu"), *variables("cuda"), *SERVICES["serve"]["environment"]}
    ours = {name for name in given if name.startswith("NANO_LLM_")}
    assert ours == {"NANO_LLM_API_KEY", "NANO_LLM_CACHE", "NANO_LLM_OUTPUTS"}
    assert ours <= read


def pip_calls(stage: str) -> Iterator[tuple[str, str]]:
    """Return what the pips of a stage are told, and the mounts of their instruction."""
    for name, rest in STAGES[stage].instructions:
        if name == "RUN":
            for call in re.findall(r"pip ((?:--python \S+ )?(?:install|wheel) [^&;]*)", rest):
                yield call, " ".join(re.findall(r"--mount=\S+", rest))


@pytest.mark.parametrize("stage", STAGES)
def test_what_is_fetched_is_checked_by_hash_and_cached(stage: str) -> None:
    for call, mounts in pip_calls(stage):
        if "--no-index" in call:
            continue  # takes what other calls have fetched
        if call.endswith("--wheel-dir /dist ."):
            assert "--no-deps --no-build-isolation" in call, "building the package would fetch something"
            continue
        assert "--require-hashes" in call or call.strip().endswith("${TORCH}")
        assert "type=cache,target=/root/.cache/pip" in mounts
        assert "install" not in call or "--only-binary :all:" in call or "--no-build-isolation" in call


@pytest.mark.parametrize("stage", STAGES)
def test_no_pip_obeys_the_versions_that_an_image_of_nvidia_pins(stage: str) -> None:
    assert not list(pip_calls(stage)) or variables(stage)["PIP_CONSTRAINT"] == '""'


def test_torch_comes_by_hash_or_by_version() -> None:
    [cuda], [cpu] = (told(f"{target}-environment", "ARG") for target in ("cuda", "cpu"))
    assert cuda == 'TORCH="--no-deps --require-hashes --requirement requirements-torch.lock"'
    assert re.fullmatch(r'TORCH="--no-deps --index-url \S+/cpu --constraint constraints.txt torch"', cpu)
    pinned = re.findall(r"^torch==(.*)$", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE)
    assert len(pinned) == 1


def test_files_that_are_installed_from_are_there_before_they_are_used() -> None:
    for stage in STAGES:
        copied = ["requirements.txt"]  # which tools/requirements.py writes
        for name, rest in (told_of for one in lineage(stage) for told_of in STAGES[one].instructions):
            if name == "COPY":
                copied += rest.split()
            if name in ("RUN", "ARG"):
                for file in re.findall(r"--(?:requirement|constraint) ([\w./-]+)", rest):
                    assert file in copied, f"{stage} has no {file} yet where it says {name} {rest}"
    assert "tools/requirements.py > requirements.txt" in " ".join(told("environment", "RUN"))


def test_new_code_installs_no_package_anew() -> None:
    whole = [stage for stage in STAGES if ". ." in told(stage, "COPY")]
    assert whole == ["project"]
    for target in TARGETS:
        mounted = re.findall(r"from=(\S+?),source=(\S+?),", " ".join(told(target, "RUN")))
        assert mounted == [("project", "/dist"), ("project", "/opt/builder")]
        assert told(target, "COPY") == [f"--from={target}-environment /opt/nano-llm /opt/nano-llm"], (
            "the packages come before the code, in a layer of their own"
        )


def test_what_is_copied_is_in_the_context() -> None:
    files = context()
    for stage in STAGES:
        for name, rest in STAGES[stage].instructions:
            if name == "COPY" and not rest.startswith("--from="):
                *sources, _ = rest.split()
                assert all(source == "." or source in files for source in sources), rest


def test_no_data_no_runs_and_no_keys_are_in_the_context() -> None:
    files = context()
    assert {file.split("/")[0] for file in files} >= {"src", "conf", "pyproject.toml"}
    assert not [file for file in files if re.search(r"(^|/)(\.env|\.git|outputs|\.venv|__pycache__)(/|$)", file)]
    assert sum((ROOT / file).stat().st_size for file in files) < 16 << 20, "something large is sent to the engine"


def test_the_wheel_built_from_the_context_is_the_one_built_from_the_checkout(tmp_path: Path) -> None:
    for file in context():
        (tmp_path / "context" / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / file, tmp_path / "context" / file)
    built = contents(build(tmp_path / "context", tmp_path / "one", "wheel")).keys()
    assert {"nano_llm/cli/main.py", "nano_llm/conf/config.yaml"} <= built
    assert built == contents(build(ROOT, tmp_path / "two", "wheel")).keys()


def test_images_have_what_users_need_and_no_tool_of_developers() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "tools/requirements.py"], capture_output=True, text=True, check=True, timeout=SECONDS
    )
    named = {canonicalize_name(Requirement(line).name) for line in done.stdout.splitlines()}
    extras = PROJECT["project"]["optional-dependencies"]
    developers = {canonicalize_name(Requirement(line).name) for line in extras["dev"]}
    assert {"hydra-core", "fastapi", "datasets", "transformers", "wandb", "optuna"} <= named
    assert not named & (developers | {"torch", "nano-llm"})
    every = {canonicalize_name(Requirement(line).name) for lines in extras.values() for line in lines}
    assert every - named == developers | {"nano-llm"}
    locked = set(re.findall(r"^([a-z0-9-]+)==", (ROOT / "requirements.lock").read_text(encoding="utf-8"), re.MULTILINE))
    assert named <= locked, "pip finds it among the locked files only"


def test_of_the_requirements_torch_alone_is_left_out(tmp_path: Path) -> None:
    lines = ["torch>=2.11,<2.16", "torch ; python_version > '3'", "torchvision>=0.20", "numpy"]
    extras = {"vision": ["torch", "torch-geometric~=2.0"]}
    described = "\n[project.optional-dependencies]\n" + "".join(f"{name} = {extras[name]}\n" for name in extras)
    (tmp_path / "pyproject.toml").write_text(f"[project]\ndependencies = {lines}\n{described}")
    tool = tmp_path / "tools/requirements.py"
    tool.parent.mkdir()
    shutil.copy(ROOT / "tools/requirements.py", tool)
    asked = subprocess.run([sys.executable, tool], capture_output=True, text=True, check=True, timeout=SECONDS)
    assert asked.stdout.split("\n") == ["torchvision>=0.20", "numpy", "torch-geometric~=2.0", ""]


# What a container does.


def in_container(arguments: list[str], outputs: Path, monkeypatch: pytest.MonkeyPatch, key: str = "") -> int:
    """Carry out a command of ours with the variables of a container, its folder of runs apart."""
    monkeypatch.setenv("NANO_LLM_OUTPUTS", str(outputs))
    monkeypatch.setenv("NANO_LLM_API_KEY", key)
    assert arguments[0] == "nano-llm"
    return main(arguments[1:])


def test_without_a_run_the_server_says_so_and_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("serve") == [*exec_form(told("cpu", "ENTRYPOINT")[-1]), *exec_form(told("cpu", "CMD")[-1])]
    assert in_container(command("serve"), tmp_path, monkeypatch, KEY) != 0
    assert f"There is no run with a checkpoint below {tmp_path}. Train one" in capsys.readouterr().err
    assert "restart" not in SERVICES["serve"], "it would be said again and again"


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of runs with one, whose model is not trained."""
    folder = tmp_path_factory.mktemp("outputs")
    config = compose_config(["model=tarnet", "data=scm", "scale=tiny"])
    words = Tokenizer.of_words(["a", "dull", "film"], 64)
    model = checkpoint.build_model(config, words.vocab_size)
    best = folder / "runs/tarnet-0/seed-0/checkpoints/best"
    best.parent.mkdir(parents=True)
    checkpoint.save(best, config=config, tokenizer=words, model=model, metrics={})
    return folder


def test_without_a_key_the_server_says_so_and_ends(
    outputs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    environment = interpolated([*SERVICES["serve"]["environment"].values()])
    assert environment == [""]
    assert in_container(command("serve"), outputs, monkeypatch) != 0
    assert "Set NANO_LLM_API_KEY" in capsys.readouterr().err


@contextmanager
def served(outputs: Path) -> Iterator[str]:
    """Serve the latest run as the image does, but to this machine alone; yields ``host:port``."""
    [*_, host, _] = command("serve")
    assert host == "--host"
    process = subprocess.Popen(
        [sys.executable, "-m", "nano_llm.cli.main", *command("serve")[1:-1], "127.0.0.1", "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "NANO_LLM_OUTPUTS": str(outputs), "NANO_LLM_API_KEY": KEY},
    )
    assert process.stdout is not None
    try:
        yield process.stdout.readline().split()[2].removeprefix("http://")
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=SECONDS)
    finally:
        process.kill()
        process.communicate()


def is_healthy(port: int) -> bool:
    """Return what the health check says of a server at another port."""
    python, option, code = health_check()
    assert (python, option) == ("python", "-c")
    assert "18080" in code
    asking = [sys.executable, option, code.replace("18080", str(port))]
    proxied = {**os.environ, "http_proxy": "http://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9"}
    return subprocess.run(asking, env=proxied, stderr=subprocess.DEVNULL, timeout=SECONDS).returncode == 0


@pytest.mark.slow
def test_the_health_check_needs_no_key_and_fails_once_nobody_answers(outputs: Path) -> None:
    with served(outputs) as place:
        port = int(place.rpartition(":")[2])
        connection = http.client.HTTPConnection(place, timeout=SECONDS)
        connection.request("GET", "/v1/models")
        assert connection.getresponse().status == 401
        connection.close()
        assert is_healthy(port)
    assert not is_healthy(port)


def test_the_health_check_fails_if_the_model_has_failed() -> None:
    asked: list[str] = []

    class Failed(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(503)
            self.end_headers()

        def log_request(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Failed) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        healthy = is_healthy(server.server_port)
        server.shutdown()
        thread.join()
    assert asked == ["/health"]
    assert not healthy


# The compose files.


def test_only_the_server_starts_unless_more_is_asked_for() -> None:
    assert SERVICES.keys() == {"train", "generate", "chat", "serve"}
    assert {name: service.get("profiles") for name, service in SERVICES.items()} == {
        "serve": None, "train": ["train"], "generate": ["generate"], "chat": ["chat"],
    }  # fmt: skip


@pytest.mark.parametrize("service", SERVICES)
def test_every_service_is_built_here_for_the_cpu_and_has_no_rights(service: str) -> None:
    given = SERVICES[service]
    assert given["build"] == {"context": ".", "target": "cpu"}
    assert given["image"].endswith(":cpu")
    assert given["init"] is True, "process 1 ignores signals that it does not handle"
    assert given["read_only"] is True
    assert given["cap_drop"] == ["ALL"]
    assert given["security_opt"] == ["no-new-privileges:true"]
    assert interpolated([given["user"]]) == told("cpu", "USER")
    assert not {"privileged", "network_mode", "ipc", "pid", "deploy", "env_file"} & given.keys()


@pytest.mark.parametrize("service", SERVICES)
def test_volumes_are_those_of_the_image(service: str) -> None:
    mounted = dict(volume.split(":")[:2] for volume in interpolated(SERVICES[service]["volumes"]))
    assert {*mounted.values()} == {*exec_form(told("cpu", "VOLUME")[0])}
    assert mounted.keys() == COMPOSE["volumes"].keys(), "without a folder of the host, volumes that have a name"


def test_the_server_is_reached_from_this_machine_alone(capsys: pytest.CaptureFixture[str]) -> None:
    [published] = SERVICES["serve"]["ports"]
    host, outside, inside = published.split(":")
    assert host == "127.0.0.1"
    assert told("cpu", "EXPOSE") == [inside] == [outside]
    with pytest.raises(SystemExit):
        main(["serve", "--help"])
    assert f"0 takes a free one; default: {inside}" in " ".join(capsys.readouterr().out.split())
    assert f"'127.0.0.1', {inside}," in health_check()[-1]
    assert not [name for name, service in SERVICES.items() if "ports" in service and name != "serve"]


def test_no_file_has_a_key() -> None:
    assert SERVICES["serve"]["environment"] == {"NANO_LLM_API_KEY": "${NANO_LLM_API_KEY:-}"}
    example = (ROOT / ".env.example").read_text(encoding="utf-8")
    assert "\n# NANO_LLM_API_KEY=\n" in example
    assert "API_KEY" not in (ROOT / "Dockerfile").read_text(encoding="utf-8")
    assert ".env" in (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()


def test_every_variable_is_explained_where_it_is_to_be_set() -> None:
    used = set(re.findall(r"\$\{(\w+)", (ROOT / "compose.yaml").read_text(encoding="utf-8")))
    example, page = (ROOT / ".env.example").read_text(encoding="utf-8"), (ROOT / "docs/docker.md").read_text("utf-8")
    assert {name for name in used if f"# {name}=" in example} == used - {"RUN"}
    assert all(name in page for name in used)
    assert not re.findall(r"\$\{(\w+)", (ROOT / "compose.gpu.yaml").read_text(encoding="utf-8"))


def seconds(duration: str) -> int:
    number, unit = int(duration[:-1]), duration[-1]
    return number * {"s": 1, "m": 60}[unit]


def test_the_engine_waits_until_the_server_has_ended() -> None:
    assert seconds(SERVICES["serve"]["stop_grace_period"]) >= Limits().grace_seconds + 10, "as docs/serving.md says"
    assert seconds(SERVICES["train"]["stop_grace_period"]) >= 60


def test_only_the_server_is_asked_for_its_health() -> None:
    assert {name for name, service in SERVICES.items() if service.get("healthcheck") == {"disable": True}} == {
        "train", "generate", "chat",
    }  # fmt: skip
    assert "healthcheck" not in SERVICES["serve"]


def test_the_training_composes() -> None:
    program, name, *overrides = command("train")
    assert (program, name) == ("nano-llm", "run")
    assert compose_config(overrides).model.name == "tarnet"


@pytest.mark.parametrize("service", ["generate", "chat"])
def test_a_command_is_one_of_ours_and_asks_for_a_run(
    service: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert in_container(command(service), tmp_path, monkeypatch) != 0
    assert "There is no run with a checkpoint" in capsys.readouterr().err
    assert (SERVICES["chat"]["stdin_open"], SERVICES["chat"]["tty"]) == (True, True)


def test_the_file_for_gpus_changes_the_image_the_devices_and_the_shared_memory_of_every_service() -> None:
    assert GPU["services"].keys() == SERVICES.keys()
    for service in GPU["services"].values():
        assert service.keys() == {"image", "build", "shm_size", "deploy"}
        assert service["image"].endswith(":cuda")
        assert service["build"] == {"target": "cuda"}
        [device] = service["deploy"]["resources"]["reservations"]["devices"]
        assert device == {"driver": "nvidia", "count": "all", "capabilities": ["gpu"]}


# What the page says.


def test_commands_of_the_page_name_services_targets_and_arguments_that_exist() -> None:
    page = (ROOT / "docs/docker.md").read_text(encoding="utf-8")
    commands = re.findall(r"```bash\n(.*?)```", page, re.DOTALL)
    lines = "\n".join(commands).replace("\\\n", " ").splitlines()
    services = {name for line in lines for name in re.findall(r"compose (?:-f \S+ )*run --rm (\S+)", line)}
    assert services == {"train", "generate", "chat"}
    targets = {name for line in lines for name in re.findall(r"--target (\S+)", line)}
    assert targets == {*TARGETS}
    given = {name for line in lines for name in re.findall(r"--build-arg (\w+)=", line)}
    assert given == {"BASE", "TORCH"}
    for overrides in re.findall(r"run --rm train ([^#\n]+)", "\n".join(lines)):
        compose_config(overrides.split())
