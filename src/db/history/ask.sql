-- Computes timeouts from the durations of completed executions. $1: jobs, $2: job types, if the policy names any.
SELECT job_id, job_type, samples, quantile,
       GREATEST({floor}, LEAST({ceiling}, quantile * {multiplier})) AS timeout,
       statement_timestamp() AS computed_at
FROM (
    SELECT {job} AS job_id,
           {job_type} AS job_type,
           count(*) AS samples,
           percentile_disc({quantile}) WITHIN GROUP (ORDER BY {duration}) AS quantile
    FROM {table} AS execution
    WHERE {completed}
      AND {start} IS NOT NULL
      AND {end} >= {start}
      AND isfinite({start})
      AND isfinite({end})
      AND NOT ({before_window})
      AND ({named})
      AND $1::text[] IS NOT NULL
      AND $2::text[] IS NOT NULL
    GROUP BY 1, 2
    HAVING count(*) >= {min_samples}
) AS history
-- They become keys of rules, whole or not at all.
WHERE COALESCE(job_id, job_type) IS NOT NULL
  AND COALESCE(octet_length(job_id) <= {id_bytes}, true)
  AND COALESCE(octet_length(job_type) <= {id_bytes}, true)
ORDER BY samples DESC
LIMIT {limit}
