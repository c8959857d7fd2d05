"""Distributed jobs: several reference jobs, a rank each, that are one. Its rank 0 stands for the whole."""

from django.db import models

from fleet.models import Host


class Team(models.Model):
    """The ranks of one distributed job, the rows of `jobs`. Nothing of it is known before `address`, where rank 0 listens.

    `members` is a digest of the devices: a distributed job's own history is that of the same ones.
    """

    world_size = models.PositiveIntegerField()
    n_hosts = models.PositiveIntegerField()
    members = models.CharField(max_length=64)
    token = models.CharField(max_length=32, help_text="What its ranks know each other by.")
    address = models.CharField(
        max_length=64, blank=True, default="", help_text="Where rank 0 listens, as its agent said."
    )
    port = models.PositiveIntegerField(default=0)
    cancelled_by = models.CharField(max_length=150, blank=True, default="")
    failure = models.TextField(blank=True, default="", help_text="Which rank ended it, and why.")
    is_settled = models.BooleanField(
        default=False, db_index=True, help_text="All ranks have ended, and the job says why."
    )

    def __str__(self) -> str:
        return f"{self.world_size} ranks on {self.n_hosts} hosts"

    @property
    def hosts(self) -> list[Host]:
        """Return the hosts of its ranks, by name; one that was removed is not among them."""
        return sorted({job.host for job in self.jobs.all()}, key=lambda host: host.name)

    @property
    def is_whole(self) -> bool:
        """Tell whether all its ranks are known still: those of a removed host are gone with it."""
        return len(self.jobs.all()) == self.world_size
