"""What devices cost to buy, as somebody said: no price is made up."""

from django.db import models


class DevicePrice(models.Model):
    """The purchase of one device of a model, in STEPWATT_CURRENCY, spread over `years` of which `used_ratio` is time at work."""

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
