"""Upkeep: reading every byte of the store again on a schedule, which is off until it is wanted."""

# No postponed annotations here: Dagster reads those of an op's function when it is defined.
import io

import dagster as dg

from assets.deployment import Deployment

ABOUT = "Reads every byte of the store again and compares it with its digest: `vjepa2 verify`."
SUNDAY_NIGHT = "0 3 * * 0"


def verify_job(deployment: Deployment) -> dg.JobDefinition:
    """The job `verify`: it fails, and names each problem, if an artifact is not as sealed."""

    @dg.op(name="verify_store", description=ABOUT)
    def verify_store(context: dg.OpExecutionContext) -> None:
        from assets.cli.verification import verify

        told = io.StringIO()
        bad = verify(deployment, None, False, told)
        for line in told.getvalue().splitlines():
            context.log.info(line)
        if bad:
            raise dg.Failure(
                f"{bad} artifacts are not as sealed; `vjepa2 run` makes them anew",
                metadata={"problems": dg.MetadataValue.md(told.getvalue())},
                allow_retries=False,
            )

    @dg.job(name="verify", description=ABOUT, executor_def=dg.in_process_executor)
    def verifying() -> None:
        verify_store()

    return verifying


def verify_schedule(job: dg.JobDefinition) -> dg.ScheduleDefinition:
    """Once a week, at night, if it is switched on."""
    return dg.ScheduleDefinition(job=job, cron_schedule=SUNDAY_NIGHT, description=ABOUT)
