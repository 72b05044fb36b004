import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.net.URI;
import java.sql.Connection;
import java.time.LocalDateTime;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.Semaphore;
import javax.sql.DataSource;
import org.postgresql.ds.PGSimpleDataSource;
import org.springframework.batch.core.configuration.support.MapJobRegistry;
import org.springframework.batch.core.job.Job;
import org.springframework.batch.core.job.JobExecution;
import org.springframework.batch.core.job.JobInstance;
import org.springframework.batch.core.job.builder.JobBuilder;
import org.springframework.batch.core.job.parameters.JobParameters;
import org.springframework.batch.core.job.parameters.JobParametersBuilder;
import org.springframework.batch.core.launch.JobOperator;
import org.springframework.batch.core.launch.support.JobOperatorFactoryBean;
import org.springframework.batch.core.listener.JobExecutionListener;
import org.springframework.batch.core.listener.StepExecutionListener;
import org.springframework.batch.core.repository.JobRepository;
import org.springframework.batch.core.repository.support.JdbcJobRepositoryFactoryBean;
import org.springframework.batch.core.step.Step;
import org.springframework.batch.core.step.StepExecution;
import org.springframework.batch.core.step.builder.StepBuilder;
import org.springframework.batch.core.step.tasklet.TaskletStep;
import org.springframework.batch.core.ExitStatus;
import org.springframework.batch.infrastructure.item.Chunk;
import org.springframework.batch.infrastructure.item.ExecutionContext;
import org.springframework.batch.infrastructure.item.ItemStreamReader;
import org.springframework.batch.infrastructure.item.ItemWriter;
import org.springframework.core.io.ClassPathResource;
import org.springframework.jdbc.core.JdbcTemplate;
import org.springframework.jdbc.datasource.init.ResourceDatabasePopulator;
import org.springframework.jdbc.support.JdbcTransactionManager;

/**
 * A real application of Spring Batch, for the proof of the adapter. It prints JSON lines and nothing else to standard output.
 *
 * <pre>
 * setup                     creates the tables by the script in Spring Batch's own package, and a table for what the jobs write
 * enqueue [--n N]           creates executions as the launcher does before its executor takes them: STARTING. Spring Batch has no
 *                           queue
 * work --run KEY            starts the job `import` for KEY with the JobOperator, or restarts it if KEY has run before
 * work --restart ID         restarts an execution with JobOperator.restart
 * work --id ID              runs an execution that `enqueue` created
 *     --kind chunk|tasklet      the step of Spring Batch 6 (the default), or the one that it has deprecated
 *     --flow                    a FlowJob with the same two steps
 *     --pause PLACE,…           waits at these places: beforeJob, chunk, afterStep (once each time)
 * show ID                   what the JobRepository says of an execution
 * rescue ID                 JobOperator.recover, Spring Batch's own remedy for an execution whose worker died
 * stop ID, abandon ID       JobOperator.stop, JobOperator.abandon
 * shell                     reads `show ID`, `rescue ID`, `stop ID`, `abandon ID`, `enqueue KEY` and answers each with a line
 * </pre>
 *
 * A worker prints {"event":"paused","place":…,"id":…} and goes on after a line `go` on standard input; `release` opens all places,
 * as does the end of standard input. The job has two steps of three chunks with ten items each. The reader saves its position.
 */
public class Client {
    static final int ITEMS = 30;
    static final int CHUNK = 10;
    static PrintStream out;
    static DataSource database;
    static JdbcTransactionManager transactions;
    static JobRepository repository;
    static JobOperator operator;
    static MapJobRegistry registry = new MapJobRegistry();
    static Map<String, String> options = new HashMap<>();
    static Semaphore permits = new Semaphore(0);

    public static void main(String[] args) throws Exception {
        out = System.out;
        System.setOut(System.err);
        database = database(System.getenv("DATABASE_URL"));
        transactions = new JdbcTransactionManager(database);
        String argument = null;
        for (int i = 1; i < args.length; i++) {
            if (!args[i].startsWith("--")) argument = args[i];
            else if (i + 1 < args.length && !args[i + 1].startsWith("--")) options.put(args[i].substring(2), args[++i]);
            else options.put(args[i].substring(2), "");
        }
        if (args[0].equals("setup")) {
            setup();
            return;
        }
        connect();
        switch (args[0]) {
            case "work" -> work();
            case "shell" -> shell();
            case "enqueue" -> {
                int n = Integer.parseInt(options.getOrDefault("n", "1"));
                for (int i = 0; i < n; i++) enqueue("queued-" + System.nanoTime());
            }
            default -> answer(args[0], argument);
        }
        System.exit(0);
    }

    static DataSource database(String url) {
        URI uri = URI.create(url);
        String[] login = (uri.getUserInfo() == null ? "postgres" : uri.getUserInfo()).split(":", 2);
        PGSimpleDataSource source = new PGSimpleDataSource();
        source.setServerNames(new String[] {uri.getHost()});
        source.setPortNumbers(new int[] {uri.getPort() < 0 ? 5432 : uri.getPort()});
        source.setDatabaseName(uri.getPath().substring(1));
        source.setUser(login[0]);
        if (login.length > 1) source.setPassword(login[1]);
        return source;
    }

    static void setup() throws Exception {
        ResourceDatabasePopulator script = new ResourceDatabasePopulator(
            new ClassPathResource("org/springframework/batch/core/schema-postgresql.sql"));
        try (Connection connection = database.getConnection()) {
            script.populate(connection);
        }
        new JdbcTemplate(database).execute("CREATE TABLE written (run text, step text, item int, execution bigint)");
        print("event", "ready");
    }

    static void connect() throws Exception {
        JdbcJobRepositoryFactoryBean repositories = new JdbcJobRepositoryFactoryBean();
        repositories.setDataSource(database);
        repositories.setTransactionManager(transactions);
        repositories.afterPropertiesSet();
        repository = repositories.getObject();
        registry.register(job());
        JobOperatorFactoryBean operators = new JobOperatorFactoryBean();
        operators.setJobRepository(repository);
        operators.setJobRegistry(registry);
        operators.setTransactionManager(transactions);
        operators.afterPropertiesSet();
        operator = operators.getObject();
    }

    static Job job() {
        JobBuilder job = new JobBuilder("import", repository).listener(new JobExecutionListener() {
            @Override public void beforeJob(JobExecution execution) {
                print("event", "started", "id", execution.getId());
                pause("beforeJob", execution.getId(), null);
            }

            @Override public void afterJob(JobExecution execution) {
                print("event", "afterJob", "id", execution.getId(), "status", execution.getStatus());
            }
        });
        if (options.containsKey("flow")) return job.start(step("first")).on("COMPLETED").to(step("second")).end().build();
        return job.start(step("first")).next(step("second")).build();
    }

    static Step step(String name) {
        Reader reader = new Reader(name);
        Writer writer = new Writer(name);
        StepExecutionListener listener = new StepExecutionListener() {
            @Override public void beforeStep(StepExecution execution) {
                reader.execution = execution;
                writer.execution = execution;
            }

            @Override public ExitStatus afterStep(StepExecution execution) {
                pause("afterStep", execution.getJobExecutionId(), name);
                return null;
            }
        };
        if (options.getOrDefault("kind", "chunk").equals("chunk")) {
            return new StepBuilder(name, repository).<Integer, Integer>chunk(CHUNK).transactionManager(transactions)
                .reader(reader).writer(writer).listener(listener).build();
        }
        TaskletStep step = new StepBuilder(name, repository).<Integer, Integer>chunk(CHUNK, transactions)
            .reader(reader).writer(writer).build();
        step.registerStepExecutionListener(listener);
        return step;
    }

    /** Reads the numbers 1 to ITEMS, and saves how far it is, as Spring Batch's own readers do. */
    static class Reader implements ItemStreamReader<Integer> {
        final String name;
        int position;
        StepExecution execution;

        Reader(String name) {
            this.name = name;
        }

        @Override public void open(ExecutionContext context) {
            position = context.getInt("position", 0);
            print("event", "opened", "step", name, "position", position);
        }

        @Override public void update(ExecutionContext context) {
            context.putInt("position", position);
        }

        @Override public Integer read() {
            return position < ITEMS ? ++position : null;
        }
    }

    /** Writes in the transaction of the chunk. */
    static class Writer implements ItemWriter<Integer> {
        final String name;
        StepExecution execution;

        Writer(String name) {
            this.name = name;
        }

        @Override public void write(Chunk<? extends Integer> chunk) {
            JdbcTemplate template = new JdbcTemplate(database);
            String run = execution.getJobParameters().getString("run");
            for (int item : chunk) {
                template.update("INSERT INTO written VALUES (?, ?, ?, ?)", run, name, item, execution.getJobExecutionId());
            }
            pause("chunk", execution.getJobExecutionId(), name + " " + chunk.getItems().get(0));
        }
    }

    static void pause(String place, long id, String detail) {
        if (!List.of(options.getOrDefault("pause", "").split(",")).contains(place)) return;
        print("event", "paused", "place", place, "id", id, "at", detail);
        permits.acquireUninterruptibly();
    }

    static void work() throws Exception {
        Thread input = new Thread(() -> {
            try (BufferedReader lines = new BufferedReader(new InputStreamReader(System.in))) {
                for (String line; (line = lines.readLine()) != null && !line.startsWith("release");) permits.release();
            } catch (Exception e) {
                e.printStackTrace();
            }
            permits.release(1_000_000);
        });
        input.setDaemon(true);
        input.start();
        JobExecution execution = null;
        try {
            if (options.containsKey("restart")) {
                execution = operator.restart(repository.getJobExecution(Long.parseLong(options.get("restart"))));
            } else if (options.containsKey("id")) {
                execution = repository.getJobExecution(Long.parseLong(options.get("id")));
                registry.getJob("import").execute(execution);
            } else {
                execution = operator.start(registry.getJob("import"), parameters(options.get("run")));
            }
        } catch (Exception e) {
            print("event", "refused", "error", e.getClass().getSimpleName(), "message", e.getMessage());
            return;
        }
        List<String> errors = new ArrayList<>();
        for (Throwable error : execution.getAllFailureExceptions()) errors.add(error.getClass().getSimpleName());
        print("event", "finished", "id", execution.getId(), "status", execution.getStatus(), "accepted", errors.isEmpty(), "errors",
            String.join(" ", errors));
    }

    static JobParameters parameters(String run) {
        return new JobParametersBuilder().addString("run", run).toJobParameters();
    }

    static void enqueue(String run) {
        JobInstance instance = repository.createJobInstance("import", parameters(run));
        print("id", String.valueOf(repository.createJobExecution(instance, parameters(run), new ExecutionContext()).getId()));
    }

    static void shell() throws Exception {
        print("event", "ready");
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in));
        for (String line; (line = lines.readLine()) != null;) {
            String[] words = line.split(" ");
            if (words[0].equals("enqueue")) enqueue(words[1]);
            else answer(words[0], words[1]);
        }
    }

    static void answer(String command, String id) {
        try {
            JobExecution execution = repository.getJobExecution(Long.parseLong(id));
            switch (command) {
                case "rescue" -> operator.recover(execution);
                case "stop" -> operator.stop(execution);
                case "abandon" -> operator.abandon(execution);
                default -> { }
            }
            show(repository.getJobExecution(execution.getId()));
        } catch (Exception e) {
            print("error", e.getClass().getSimpleName(), "message", e.getMessage());
        }
    }

    static void show(JobExecution execution) {
        StringBuilder steps = new StringBuilder();
        for (StepExecution step : execution.getStepExecutions()) {
            steps.append(steps.length() > 0 ? "," : "").append(object("name", step.getStepName(), "status", step.getStatus(),
                "exitCode", step.getExitStatus().getExitCode(), "message", step.getExitStatus().getExitDescription(),
                "ended", step.getEndTime(), "position", step.getExecutionContext().get("position"),
                "written", step.getWriteCount()));
        }
        String all = object("id", execution.getId(), "status", execution.getStatus(), "running", execution.isRunning(), "exitCode",
            execution.getExitStatus().getExitCode(), "message", execution.getExitStatus().getExitDescription(), "started",
            execution.getStartTime(), "ended", execution.getEndTime(), "now", LocalDateTime.now(), "findsRunning",
            repository.findRunningJobExecutions("import").stream().anyMatch(found -> found.getId() == execution.getId()));
        line(all.substring(0, all.length() - 1) + ",\"steps\":[" + steps + "]}");
    }

    static void print(Object... pairs) {
        line(object(pairs));
    }

    static synchronized void line(String text) {
        out.println(text);
        out.flush();
    }

    static String object(Object... pairs) {
        StringBuilder text = new StringBuilder("{");
        for (int i = 0; i < pairs.length; i += 2) {
            Object value = pairs[i + 1];
            boolean bare = value == null || value instanceof Number || value instanceof Boolean;
            text.append(i > 0 ? "," : "").append(quoted(pairs[i].toString())).append(':')
                .append(bare ? String.valueOf(value) : quoted(value.toString()));
        }
        return text.append('}').toString();
    }

    static String quoted(String text) {
        StringBuilder quoted = new StringBuilder("\"");
        for (char c : text.toCharArray()) {
            if (c == '"' || c == '\\') quoted.append('\\').append(c);
            else if (c < ' ') quoted.append(String.format("\\u%04x", (int) c));
            else quoted.append(c);
        }
        return quoted.append('"').toString();
    }
}
