//! The tutorial for a table that nobody knows, from `\d` to executions that are failed and cancelled.

use sqlx::PgPool;

use crate::support::World;
use crate::support::tutorial::Tutorial;

/// The tasks with their states and ends.
const TASKS: &str = "SELECT string_agg(concat_ws(' ', tenant || '/' || seq, state, \
     CASE WHEN failed_at IS NOT NULL THEN 'failed' END, CASE WHEN cancelled_at IS NOT NULL THEN 'cancelled' END, \
     CASE WHEN finished_at IS NOT NULL THEN 'finished' END), ', ' ORDER BY tenant, seq) FROM tasks";

#[tokio::test]
async fn a_table_that_nobody_knows_is_ended_as_the_tutorial_says() {
    let world = World::bare("anytable").await;
    let owner = world.owner().await;
    let mut tutorial = Tutorial::of("any-table", &world, &owner);
    let operator = world.operator();
    for section in [
        "What you need",
        "Read the table",
        "Make executions of its rows",
        "Write an end as the application does",
        "Describe and grant",
        "Check it",
    ] {
        tutorial.follow(section);
    }
    let before: String = world.one(TASKS).await;
    assert_eq!(before, "acme/1 1, acme/2 1, acme/3 2 finished, globex/1 1", "a check changes nothing");
    rights_end_at_the_view(&world).await;
    the_trigger_leaves_a_task_that_has_started_again(&world).await;

    tutorial.follow("Start");
    world.until_true("SELECT count(*) = 2 FROM tasks WHERE state IN (3, 4)").await;
    let history = tutorial.follow("See it rescued");
    assert!(history.contains("acme/1") && history.contains("acme/2"), "{history}");
    let recorded: String = world
        .one("SELECT string_agg(concat_ws(' ', execution_id, action, reason, source), ', ' ORDER BY execution_id) FROM jobexec.events")
        .await;
    assert_eq!(
        recorded,
        "acme/1 Failed DeadlineExceeded ExecutionStore/tasks, acme/2 Cancelled DeadlineExceeded ExecutionStore/tasks"
    );
    // Their workers live after all, and compare what the page says.
    world
        .sql("UPDATE tasks SET state = 2, finished_at = 1 WHERE tenant = 'acme' AND seq < 3 AND state = 1 AND attempt = 1")
        .await;
    let after: String = world.one(TASKS).await;
    assert_eq!(after, "acme/1 3 failed, acme/2 4 cancelled, acme/3 2 finished, globex/1 1");
    tutorial.follow("Undo");
    assert_eq!(world.one::<String>(TASKS).await, after);
    drop(operator);
}

/// The operator's role has no way around the view, and the view none around the trigger.
async fn rights_end_at_the_view(world: &World) {
    let narrow = PgPool::connect(&world.url("right/password")).await.unwrap();
    let refused = sqlx::query("UPDATE tasks SET state = 3").execute(&narrow).await.unwrap_err().to_string();
    assert!(refused.contains("permission denied"), "{refused}");
    let ignored = sqlx::query("UPDATE task_executions SET status = 'failed'").execute(&narrow).await.unwrap();
    assert_eq!(ignored.rows_affected(), 0);
}

/// A task that starts again between the moment when it is judged and the one when it is ended.
async fn the_trigger_leaves_a_task_that_has_started_again(world: &World) {
    let mut worker = world.pool.begin().await.unwrap();
    let again = "UPDATE tasks SET attempt = 2 WHERE tenant = 'globex'";
    sqlx::raw_sql(again).execute(&mut *worker).await.unwrap();
    let narrow = PgPool::connect(&world.url("right/password")).await.unwrap();
    let ended = tokio::spawn(async move {
        let mut tx = narrow.begin().await.unwrap();
        sqlx::raw_sql("SET LOCAL jobexec.ending = 'Fail'").execute(&mut *tx).await.unwrap();
        let end = "UPDATE task_executions SET status = 'failed', completed_at = now() WHERE id = 'globex/1'";
        let ended = sqlx::raw_sql(end).execute(&mut *tx).await.unwrap().rows_affected();
        tx.commit().await.unwrap();
        ended
    });
    world
        .until_true("SELECT count(*) = 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'")
        .await;
    worker.commit().await.unwrap();
    assert_eq!(ended.await.unwrap(), 0, "it is of another attempt");
    assert_eq!(world.one::<i32>("SELECT state FROM tasks WHERE tenant = 'globex'").await, 1);
}
