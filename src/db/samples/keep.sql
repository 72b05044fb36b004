-- Stores the counts as the sample of this minute unless there is one. $1: store id; executions that $2: run, $3: wait, $4: are
-- long-running, $5: are stale.
INSERT INTO jobexec.samples (store_id, at, running, scheduled, long_running, stale, failed)
SELECT $1, this.minute, $2, $3, $4, $5,
       (SELECT count(*)
        FROM jobexec.events AS event
        WHERE event.store_id = $1
          AND event.action IN ('Failed', 'Cancelled', 'Retried')
          AND event.at < this.minute
          AND event.at >= GREATEST(last.minute, this.minute - interval '1 hour'))
FROM (SELECT date_trunc('minute', statement_timestamp()) AS minute) AS this,
     LATERAL (
         SELECT COALESCE(max(at), this.minute - interval '1 minute') AS minute
         FROM jobexec.samples
         WHERE store_id = $1 AND at < this.minute
     ) AS last
ON CONFLICT DO NOTHING
