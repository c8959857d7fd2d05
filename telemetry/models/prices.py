"""What energy and devices cost, as somebody said: no price is made up."""

from django.db import models


class EnergyPrice(models.Model):
    """What an admin set under Settings for a kWh: one row at most; None, or "", where nothing was set. Read by energy_rates.

    `bands` is a time zone and the times with another price, as STEPWATT_TARIFF has them.
    """

    currency = models.CharField(max_length=12, blank=True, default="")
    price_per_kwh = models.FloatField(null=True)
    bands = models.CharField(max_length=2000, blank=True, default="")
    grams_co2_per_kwh = models.FloatField(null=True)
    pue = models.FloatField(null=True)

    class Meta:
        constraints = (models.CheckConstraint(condition=models.Q(pk=1), name="one_energy_price"),)

    def __str__(self) -> str:
        return f"{self.price_per_kwh} {self.currency} per kWh"


class DevicePrice(models.Model):
    """The purchase of one device of a model, in the currency of energy, over `years` of which `used_ratio` is time at work."""

    model = models.CharField(max_length=500, unique=True)
    price = models.FloatField()
    years = models.FloatField()
    used_ratio = models.FloatField()

    class Meta:
        ordering = ["model"]

    def __str__(self) -> str:
        return f"{self.model} {self.price:g} over {self.years:g} years"

    @property
    def per_second_at_work(self) -> float:
        """Return what a second at work costs of it."""
        return self.price / (self.years * 365.25 * 86_400 * self.used_ratio)
