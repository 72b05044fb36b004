// A client of River for the tests of its adapter: it prints one JSON object a line.
//
//	setup                      runs River's migrations
//	enqueue [--n N] [--max-attempts M] [--queue Q] [--stubborn]
//	                           inserts jobs; a stubborn one ignores that its context is cancelled
//	work [--queue Q] [--once] [--follow]
//	                           works jobs, with --follow without River's maintenance. Each job waits for a line "release",
//	                           "release ID", "fail ID" or "snooze ID" on standard input. It prints "started", "stopped" (by its
//	                           context), "returned", and "finished" when River says what became of the job: "accepted" tells whether
//	                           it completed. At the end of standard input it stops.
//	show ID                    prints the job as JobGet returns it
//	cancel ID                  asks for the cancellation of the job by JobCancel
//	rescue                     runs River's own rescuer until it has rescued something, for jobs that started before now
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"
	"github.com/riverqueue/river/rivertype"
)

type waitArgs struct {
	Stubborn bool `json:"stubborn"`
}

func (waitArgs) Kind() string { return "wait" }

var printing sync.Mutex

func show(object map[string]any) {
	printing.Lock()
	defer printing.Unlock()
	line, err := json.Marshal(object)
	check(err)
	fmt.Println(string(line))
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// The orders of each running job: its channel receives "release", "fail" or "snooze".
type told struct {
	sync.Mutex
	jobs map[int64]chan string
}

func (t *told) channel(id int64) chan string {
	t.Lock()
	defer t.Unlock()
	if t.jobs[id] == nil {
		t.jobs[id] = make(chan string, 1)
	}
	return t.jobs[id]
}

func (t *told) tell(line string) {
	word, id, named := strings.Cut(line, " ")
	if named {
		number, err := strconv.ParseInt(id, 10, 64)
		check(err)
		t.channel(number) <- word
		return
	}
	t.Lock()
	defer t.Unlock()
	for _, channel := range t.jobs {
		select {
		case channel <- word:
		default:
		}
	}
}

type waitWorker struct {
	river.WorkerDefaults[waitArgs]
	told *told
}

func (w *waitWorker) Work(ctx context.Context, job *river.Job[waitArgs]) error {
	line := func(event string) map[string]any {
		return map[string]any{"event": event, "id": strconv.FormatInt(job.ID, 10), "attempt": job.Attempt}
	}
	channel := w.told.channel(job.ID)
	show(line("started"))
	stop := ctx.Done()
	for {
		select {
		case <-stop:
			stopped := line("stopped")
			stopped["cause"] = context.Cause(ctx).Error()
			show(stopped)
			if !job.Args.Stubborn {
				return ctx.Err()
			}
			stop = nil
		case word := <-channel:
			show(line("returned"))
			switch word {
			case "fail":
				return errors.New("told to fail")
			case "snooze":
				return river.JobSnooze(time.Hour)
			}
			return nil
		}
	}
}

// Prints a line when River's rescuer says that it rescued jobs.
type rescues struct {
	slog.Handler
	done chan struct{}
}

func (r rescues) Handle(ctx context.Context, record slog.Record) error {
	if strings.Contains(record.Message, "JobRescuer: Ran successfully") {
		object := map[string]any{"event": "rescued"}
		record.Attrs(func(attr slog.Attr) bool { object[attr.Key] = attr.Value.Any(); return true })
		show(object)
		select {
		case r.done <- struct{}{}:
		default:
		}
	}
	return r.Handler.Handle(ctx, record)
}

func client(pool *pgxpool.Pool, config *river.Config, told *told) *river.Client[pgx.Tx] {
	config.Workers = river.NewWorkers()
	river.AddWorker(config.Workers, &waitWorker{told: told})
	if config.Logger == nil {
		config.Logger = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	}
	made, err := river.NewClient(riverpgxv5.New(pool), config)
	check(err)
	return made
}

func work(ctx context.Context, pool *pgxpool.Pool, queue string, once, follow bool) {
	told := &told{jobs: map[int64]chan string{}}
	client := client(pool, &river.Config{
		FetchCooldown:          100 * time.Millisecond,
		FetchPollInterval:      200 * time.Millisecond,
		JobTimeout:             time.Hour,
		LeaderElectionDisabled: follow,
		Queues:                 map[string]river.QueueConfig{queue: {MaxWorkers: 100}},
	}, told)
	events, _ := client.Subscribe(
		river.EventKindJobCompleted, river.EventKindJobFailed, river.EventKindJobCancelled, river.EventKindJobSnoozed,
	)
	check(client.Start(ctx))

	lines := make(chan string)
	go func() {
		defer close(lines)
		for input := bufio.NewScanner(os.Stdin); input.Scan(); {
			lines <- input.Text()
		}
	}()
	finished := make(chan struct{}, 1)
	go func() {
		for event := range events {
			show(map[string]any{
				"event": "finished", "id": strconv.FormatInt(event.Job.ID, 10), "attempt": event.Job.Attempt,
				"kind": event.Kind, "state": event.Job.State, "accepted": event.Kind == river.EventKindJobCompleted,
			})
			if once {
				finished <- struct{}{}
			}
		}
	}()
	for open := true; open; {
		var line string
		select {
		case line, open = <-lines:
			if open {
				told.tell(line)
			}
		case <-finished:
			open = false
		}
	}
	check(client.Stop(ctx))
}

func rescue(ctx context.Context, pool *pgxpool.Pool) {
	done := make(chan struct{}, 1)
	client := client(pool, &river.Config{
		JobTimeout:           time.Nanosecond,
		RescueStuckJobsAfter: time.Nanosecond,
		Queues:               map[string]river.QueueConfig{"none": {MaxWorkers: 1}},
		Logger:               slog.New(rescues{slog.NewTextHandler(os.Stderr, nil), done}),
	}, &told{jobs: map[int64]chan string{}})
	check(client.Start(ctx))
	<-done
	check(client.Stop(ctx))
}

func job(row *rivertype.JobRow) map[string]any {
	return map[string]any{
		"id": strconv.FormatInt(row.ID, 10), "state": row.State, "attempt": row.Attempt, "max_attempts": row.MaxAttempts,
		"errors": row.Errors, "metadata": json.RawMessage(row.Metadata), "attempted_at": row.AttemptedAt,
		"finalized_at": row.FinalizedAt, "scheduled_at": row.ScheduledAt,
	}
}

func main() {
	if len(os.Args) < 2 {
		check(errors.New("usage: client setup|enqueue|work|show|cancel|rescue"))
	}
	command := os.Args[1]
	flags := flag.NewFlagSet(command, flag.ExitOnError)
	n := flags.Int("n", 1, "the number of jobs")
	maxAttempts := flags.Int("max-attempts", 0, "the attempts of each job, or River's default")
	queue := flags.String("queue", river.QueueDefault, "the queue")
	stubborn := flags.Bool("stubborn", false, "whether the jobs ignore that they are cancelled")
	once := flags.Bool("once", false, "whether to stop after one job")
	follow := flags.Bool("follow", false, "whether to leave River's maintenance to others")
	check(flags.Parse(os.Args[2:]))
	id := func() int64 {
		number, err := strconv.ParseInt(flags.Arg(0), 10, 64)
		check(err)
		return number
	}

	ctx := context.Background()
	pool, err := pgxpool.New(ctx, os.Getenv("DATABASE_URL"))
	check(err)
	defer pool.Close()

	switch command {
	case "setup":
		migrator, err := rivermigrate.New(riverpgxv5.New(pool), nil)
		check(err)
		done, err := migrator.Migrate(ctx, rivermigrate.DirectionUp, nil)
		check(err)
		show(map[string]any{"event": "migrated", "versions": len(done.Versions)})
	case "enqueue":
		inserting, err := river.NewClient(riverpgxv5.New(pool), &river.Config{})
		check(err)
		for range *n {
			inserted, err := inserting.Insert(ctx, waitArgs{*stubborn}, &river.InsertOpts{MaxAttempts: *maxAttempts, Queue: *queue})
			check(err)
			show(map[string]any{"id": strconv.FormatInt(inserted.Job.ID, 10)})
		}
	case "work":
		work(ctx, pool, *queue, *once, *follow)
	case "show", "cancel":
		asking, err := river.NewClient(riverpgxv5.New(pool), &river.Config{})
		check(err)
		ask := asking.JobGet
		if command == "cancel" {
			ask = asking.JobCancel
		}
		row, err := ask(ctx, id())
		check(err)
		show(job(row))
	case "rescue":
		rescue(ctx, pool)
	default:
		check(fmt.Errorf("%s is not a command", command))
	}
}
