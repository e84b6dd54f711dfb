from nano_llm.serving.gauges import Gauges

NAMES = {
    "requests_total",
    "request_success_total",
    "requests_running",
    "requests_waiting",
    "prompt_tokens_total",
    "generation_tokens_total",
    "time_to_first_token_seconds",
    "inter_token_latency_seconds",
    "e2e_request_latency_seconds",
    "rejected_total",
    "cancelled_total",
    "model_info",
}


def gauges_of(*, running: int = 0, waiting: int = 0) -> Gauges:
    return Gauges(model="m", fingerprint="f" * 8, num_running=lambda: running, num_waiting=lambda: waiting)


def lines_of(gauges: Gauges) -> list[str]:
    return gauges.render().decode().splitlines()


def test_the_names_are_those_that_are_documented_and_none_is_a_time_of_creation() -> None:
    gauges = gauges_of()
    gauges.answered("/health", 200)
    families = {line.split()[2] for line in lines_of(gauges) if line.startswith("# TYPE")}
    assert families == {f"nano_llm:{name}" for name in NAMES}


def test_two_servers_in_a_process_share_no_figure() -> None:
    first, second = gauges_of(), gauges_of()
    first.cancelled()
    assert "nano_llm:cancelled_total 1.0" in lines_of(first)
    assert "nano_llm:cancelled_total 0.0" in lines_of(second)


def test_running_and_waiting_are_read_when_they_are_asked_for() -> None:
    running = [3]
    gauges = Gauges(model="m", fingerprint="f", num_running=lambda: running[0], num_waiting=lambda: 2)
    assert {"nano_llm:requests_running 3.0", "nano_llm:requests_waiting 2.0"} <= set(lines_of(gauges))
    running[0] = 0
    assert "nano_llm:requests_running 0.0" in lines_of(gauges)


def test_counts_are_by_route_code_and_reason() -> None:
    gauges = gauges_of()
    gauges.answered("/v1/models/{name}", 404)
    gauges.rejected("overloaded")
    gauges.finished("stop")
    gauges.finished("stop")
    gauges.read(7)
    lines = lines_of(gauges)
    assert 'nano_llm:requests_total{code="404",route="/v1/models/{name}"} 1.0' in lines
    assert 'nano_llm:rejected_total{reason="overloaded"} 1.0' in lines
    assert 'nano_llm:request_success_total{finish_reason="stop"} 2.0' in lines
    assert "nano_llm:prompt_tokens_total 7.0" in lines
    assert 'nano_llm:model_info{checkpoint="ffffffff",model="m"} 1.0' in lines


def test_a_watch_tells_the_first_token_from_the_next_ones() -> None:
    gauges = gauges_of()
    watch = gauges.watch()
    for num_tokens in (0, 2, 1, 1):
        watch.wrote(num_tokens)
    watch.over()
    assert {
        "nano_llm:time_to_first_token_seconds_count 1.0",
        "nano_llm:inter_token_latency_seconds_count 2.0",
        "nano_llm:e2e_request_latency_seconds_count 1.0",
        "nano_llm:generation_tokens_total 4.0",
    } <= set(lines_of(gauges))
