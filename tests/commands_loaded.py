"""All that commands import while they work, so that a process forked from one that has it need not."""

import nano_llm.assessment
import nano_llm.cli.batch
import nano_llm.cli.evaluate
import nano_llm.cli.generate
import nano_llm.cli.main
import nano_llm.cli.prepare
import nano_llm.cli.report
import nano_llm.run
import nano_llm.session  # noqa: F401
