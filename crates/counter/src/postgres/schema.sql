-- What Seriatim keeps in a database for IDs that it shares with others. It may be run again.
-- Places are counted from 0; an ID is made of a place by the table's `start` and `step`: start + step * place.
CREATE SCHEMA IF NOT EXISTS seriatim;

-- Where each sequence stands; and the run that has an open block, which nobody may go past.
CREATE TABLE IF NOT EXISTS seriatim.counter (
    name  text PRIMARY KEY,
    next  bigint NOT NULL DEFAULT 0 CHECK (next >= 0),
    run   text,
    count bigint,
    since timestamptz
);

-- The block of each run. Of a sequence that is taken by nextval the name begins with `nextval:`.
CREATE TABLE IF NOT EXISTS seriatim.block (
    name  text NOT NULL,
    run   text NOT NULL,
    first bigint NOT NULL CHECK (first >= 0),
    count bigint NOT NULL CHECK (count > 0),
    state text NOT NULL CHECK (state IN ('open', 'committed', 'released')),
    since timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (name, run)
);

-- For applications: takes the next `n` places of a sequence in the caller's own transaction, and gives the first one.
-- Rolled back, they were never taken. While a run has an open block, it fails with object_in_use (55006): try again later.
CREATE OR REPLACE FUNCTION seriatim.take(sequence text, n bigint DEFAULT 1) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
    held seriatim.counter;
BEGIN
    IF n IS NULL OR n < 1 THEN
        RAISE EXCEPTION 'seriatim.take: % is no number of IDs', n USING ERRCODE = 'invalid_parameter_value';
    END IF;
    SELECT * INTO held FROM seriatim.counter WHERE name = sequence FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'seriatim.take: there is no sequence "%"', sequence
            USING ERRCODE = 'undefined_object',
                  HINT = 'the first run makes it; or: INSERT INTO seriatim.counter (name) VALUES (...)';
    END IF;
    IF held.run IS NOT NULL THEN
        RAISE EXCEPTION 'seriatim.take: the sequence "%" is held by run % since %', sequence, held.run, held.since
            USING ERRCODE = 'object_in_use',
                  HINT = 'try again when the run has ended';
    END IF;
    UPDATE seriatim.counter SET next = next + n WHERE name = sequence;
    RETURN held.next;
END
$$;
