// Works on job executions, 100 items each, until there are none left. A killed worker loses at most the item at hand.
package main

import (
	"context"
	"errors"
	"log"
	"os"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

const (
	claim = `
		UPDATE job_executions SET status = 'running', started_at = now()
		WHERE id = (
			SELECT id FROM job_executions
			WHERE status = 'scheduled' AND (run_at IS NULL OR run_at <= now())
			ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED)
		RETURNING id, started_at, COALESCE(checkpoint, 0)`

	checkpoint = `
		UPDATE job_executions SET checkpoint = $3, checkpoint_at = now()
		WHERE id = $1 AND status = 'running' AND started_at = $2`

	finish = `
		UPDATE job_executions SET status = 'completed', completed_at = now()
		WHERE id = $1 AND status = 'running' AND started_at = $2`
)

// The operator has given this attempt up: what it does no longer counts.
var errGivenUp = errors.New("given up")

func guarded(written pgconn.CommandTag, err error) error {
	if err == nil && written.RowsAffected() == 0 {
		return errGivenUp
	}
	return err
}

func work(ctx context.Context, db *pgx.Conn, id int64, startedAt time.Time, done int) error {
	for item := done + 1; item <= 100; item++ {
		err := pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
			if err := guarded(tx.Exec(ctx, checkpoint, id, startedAt, item)); err != nil {
				return err
			}
			_, err := tx.Exec(ctx, "INSERT INTO done (item, execution) VALUES ($1, $2)", item, id)
			return err
		})
		if err != nil {
			return err
		}
	}
	return guarded(db.Exec(ctx, finish, id, startedAt))
}

func main() {
	ctx := context.Background()
	db, err := pgx.Connect(ctx, os.Getenv("DATABASE_URL"))
	if err != nil {
		log.Fatal(err)
	}
	for {
		var id int64
		var startedAt time.Time
		var done int
		err := db.QueryRow(ctx, claim).Scan(&id, &startedAt, &done)
		if errors.Is(err, pgx.ErrNoRows) {
			return
		}
		if err == nil {
			err = work(ctx, db, id, startedAt, done)
		}
		if err != nil && !errors.Is(err, errGivenUp) {
			log.Fatal(err)
		}
	}
}
