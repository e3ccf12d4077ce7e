"""A new epoch for a database that was found to be restored: the one change of it that a service's login may ask for."""

from alembic import op

revision = "events_0003"
down_revision = "events_0002"
branch_labels = None
depends_on = None

# Both times are the database server's. A change that lies in the future was made by a clock that has been put back
# since: it proves nothing. The row's lock makes two that find the same restore at once change it once.
_AFTER_RESTORE = """
CREATE FUNCTION events.change_epoch_after_restore(known_at timestamptz, reason text) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $body$
BEGIN
    PERFORM FROM events.epoch AS e
        WHERE known_at IS NULL OR e.changed_at < known_at OR e.changed_at > clock_timestamp() FOR UPDATE;
    IF FOUND THEN
        PERFORM events.change_epoch(change_epoch_after_restore.reason);
        RETURN true;
    END IF;
    RETURN false;
END
$body$;
REVOKE ALL ON FUNCTION events.change_epoch_after_restore(timestamptz, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION events.change_epoch_after_restore(timestamptz, text) TO holdfast_backup;
COMMENT ON FUNCTION events.change_epoch_after_restore IS
    'known_at: of the newest heartbeat known outside the database, NULL when none is. An epoch that was changed after'
    ' it belongs to this restore already, and stays.';
"""


def upgrade() -> None:
    op.execute(_AFTER_RESTORE)


def downgrade() -> None:
    op.execute("DROP FUNCTION events.change_epoch_after_restore(timestamptz, text)")
