-- Roles, schemas and privileges of Holdfast, made by a superuser in the target database; running it again changes nothing.
-- Passwords are set apart from this file, from secret files. Works on any PostgreSQL 15 or later, managed ones included.

DO $roles$
DECLARE
    wanted text;
BEGIN
    FOREACH wanted IN ARRAY ARRAY['holdfast_owner', 'holdfast_auth', 'holdfast_files', 'holdfast_events', 'holdfast_backup',
                                  'holdfast_pgbackrest'] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = wanted) THEN
            EXECUTE format('CREATE ROLE %I', wanted);
        END IF;
        EXECUTE format('ALTER ROLE %I LOGIN NOSUPERUSER NOBYPASSRLS NOCREATEDB NOCREATEROLE NOREPLICATION NOINHERIT', wanted);
        EXECUTE format('ALTER ROLE %I SET timezone = %L', wanted, 'UTC');
    END LOOP;
    -- The defaults hold where a pooling proxy strips what libs.db asks for at connection time.
    FOREACH wanted IN ARRAY ARRAY['holdfast_auth', 'holdfast_files', 'holdfast_events', 'holdfast_backup'] LOOP
        EXECUTE format('ALTER ROLE %I SET statement_timeout = %L', wanted, '15s');
        EXECUTE format('ALTER ROLE %I SET lock_timeout = %L', wanted, '5s');
        EXECUTE format('ALTER ROLE %I SET idle_in_transaction_session_timeout = %L', wanted, '15s');
    END LOOP;
END
$roles$;

-- A7: what the owner and human superusers run is in the server's log.
ALTER ROLE holdfast_owner SET log_statement = 'all';
DO $humans$
BEGIN
    EXECUTE format('ALTER ROLE %I SET log_statement = %L', session_user, 'all');
END
$humans$;

DO $database$
BEGIN
    EXECUTE format('ALTER DATABASE %I OWNER TO holdfast_owner', current_database());
    EXECUTE format('REVOKE ALL ON DATABASE %I FROM PUBLIC', current_database());
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO holdfast_auth, holdfast_files, holdfast_events, holdfast_backup,'
                   ' holdfast_pgbackrest', current_database());
END
$database$;
REVOKE ALL ON SCHEMA public FROM PUBLIC;

CREATE SCHEMA IF NOT EXISTS jobs AUTHORIZATION holdfast_owner;
CREATE SCHEMA IF NOT EXISTS audit AUTHORIZATION holdfast_owner;
CREATE SCHEMA IF NOT EXISTS auth AUTHORIZATION holdfast_owner;
CREATE SCHEMA IF NOT EXISTS events AUTHORIZATION holdfast_owner;
CREATE SCHEMA IF NOT EXISTS files AUTHORIZATION holdfast_owner;
CREATE SCHEMA IF NOT EXISTS backup AUTHORIZATION holdfast_owner;
GRANT USAGE ON SCHEMA auth TO holdfast_auth;
GRANT USAGE ON SCHEMA events TO holdfast_events, holdfast_auth, holdfast_files, holdfast_backup;
GRANT USAGE ON SCHEMA files TO holdfast_files;
GRANT USAGE ON SCHEMA backup TO holdfast_backup;
GRANT USAGE ON SCHEMA jobs, audit TO holdfast_auth, holdfast_files, holdfast_events, holdfast_backup;

-- A new function is callable by nobody until a migration grants it.
ALTER DEFAULT PRIVILEGES FOR ROLE holdfast_owner REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;

-- pgBackRest takes backups as its own login; the backup service itself only switches segments and looks at the archiver.
GRANT EXECUTE ON FUNCTION pg_backup_start(text, boolean), pg_backup_stop(boolean), pg_switch_wal(),
    pg_create_restore_point(text) TO holdfast_pgbackrest;
GRANT pg_read_all_settings TO holdfast_pgbackrest;
ALTER ROLE holdfast_pgbackrest INHERIT;
GRANT EXECUTE ON FUNCTION pg_switch_wal(), pg_ls_archive_statusdir() TO holdfast_backup;
