"""An SQLite file is written anew, once, so that its free pages can go back to the disk: a new one, while it holds next to nothing."""

import logging
import shutil
from pathlib import Path

from django.db import OperationalError, migrations

from telemetry import vendor_sql

logger = logging.getLogger(__name__)


def let_space_be_given_back(apps, schema_editor):
    """Without room for a second copy everything works but this; then the log says how to do it later."""
    file = Path(schema_editor.connection.settings_dict["NAME"])
    if vendor_sql.gives_back_space() or not file.is_file():  # a database in memory has nothing to give back
        return
    try:
        if shutil.disk_usage(file.parent).free > 2 * file.stat().st_size:  # the copy, and the log that it goes through
            vendor_sql.let_space_be_given_back()
            return
    except OperationalError as error:
        if not vendor_sql.is_out_of_space(error):
            raise
    logger.warning(
        "%s keeps its size when samples are retired, as the disk has no room to write it anew; when it has, stop the server "
        "and run: sqlite3 %s 'PRAGMA auto_vacuum = INCREMENTAL; VACUUM'",
        file,
        file,
    )


class Migration(migrations.Migration):
    atomic = False  # VACUUM runs in no transaction
    dependencies = [("telemetry", "0008_drop_first_batches")]
    operations = [migrations.RunPython(let_space_be_given_back, migrations.RunPython.noop)]
