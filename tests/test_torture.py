"""The bounded form of what `make torture` does for long: the same tests, fewer faults."""

from torture.test_disk import test_a_sweep_on_small_disks
from torture.test_killed_writes import test_a_command_killed_at_a_write_and_given_again_ends_as_if_undisturbed
from torture.test_random_kills import (
    rng,
    test_a_run_killed_at_a_random_moment_and_given_again_ends_as_if_undisturbed,
    test_a_sweep_killed_at_a_random_moment_and_given_again_ends_as_if_undisturbed,
    test_requests_killed_at_a_random_moment_and_given_again_are_answered_byte_for_byte,
)
from torture.test_server import server, test_memory_is_flat_under_mixed_load_and_nothing_is_left_of_it

__all__ = [
    "rng",
    "server",
    "test_a_command_killed_at_a_write_and_given_again_ends_as_if_undisturbed",
    "test_a_run_killed_at_a_random_moment_and_given_again_ends_as_if_undisturbed",
    "test_a_sweep_killed_at_a_random_moment_and_given_again_ends_as_if_undisturbed",
    "test_a_sweep_on_small_disks",
    "test_memory_is_flat_under_mixed_load_and_nothing_is_left_of_it",
    "test_requests_killed_at_a_random_moment_and_given_again_are_answered_byte_for_byte",
]
