from starlette.testclient import TestClient

from nano_llm import __version__
from nano_llm.serving.app import create_app
from serving.authors import gated, open_author
from serving.servers import LIMITS, served


def test_health_and_readiness_follow_the_engine() -> None:
    with served(open_author("model=tarnet")) as service:
        client = TestClient(create_app(service, keys=["secret"]))
        with gated(service.author):  # whatever the model is busy with
            assert client.get("/health").json() == {"status": "ok"}
            assert client.get("/ready").status_code == 200
        service.engine.drain(1)
        assert client.get("/health").status_code == 200
        ready = client.get("/ready")
        assert (ready.status_code, ready.json()["error"]["code"]) == (503, "shutting_down")
        assert int(ready.headers["retry-after"]) > 0
        service.engine.close()
        dead = client.get("/health")
        assert (dead.status_code, dead.json()["error"]["code"]) == (503, "model_failed")


def test_a_model_tells_what_it_is_and_what_may_be_asked_of_it() -> None:
    with served(open_author("model=tarnet"), name="runs/of mine") as service:
        client = TestClient(create_app(service))
        (card,) = client.get("/v1/models").json()["data"]
        assert client.get("/v1/models/runs%2Fof%20mine").json() == card
        assert (card["object"], card["owned_by"], card["created"]) == ("model", "nano_llm", service.created)
        told = card["nano_llm"]
        assert (told["num_heads"], told["has_outcomes"], told["topics"]) == (2, True, [])
        assert told["prompt"] == service.author.template.prompt(1)
        assert told["limits"]["max_tokens"] == LIMITS.max_tokens
        assert client.get("/version").json() == {"version": __version__, "checkpoint": "fingerprint"}


def test_figures_count_what_was_written() -> None:
    with served(open_author("model=tarnet")) as service:
        client = TestClient(create_app(service))
        usage = client.post("/v1/completions", json={"prompt": "", "max_tokens": 4, "n": 2}).json()["usage"]
        list(client.post("/v1/counterfactual", json={"max_tokens": 3}).iter_lines())
        figures = client.get("/metrics")
        assert figures.headers["content-type"].startswith("text/plain; version=")
        lines = dict(line.rsplit(" ", 1) for line in figures.text.splitlines() if not line.startswith("#"))
        read, written = (
            float(lines["nano_llm:prompt_tokens_total"]),
            float(lines["nano_llm:generation_tokens_total"]),
        )
        assert read == usage["prompt_tokens"] + 6
        assert usage["completion_tokens"] < written <= usage["completion_tokens"] + 6
        assert lines["nano_llm:requests_running"] == "0.0"
        assert lines['nano_llm:requests_total{code="200",route="/v1/completions"}'] == "1.0"


def test_a_path_with_a_slash_too_many_is_an_error_and_no_redirect() -> None:
    with served(open_author("model=tarnet")) as service:
        client = TestClient(create_app(service), follow_redirects=False)
        for answer in (client.post("/v1/completions/", json={}), client.get("/v1/models/")):
            assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")
