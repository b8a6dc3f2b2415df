import java.util.ArrayList;
import java.util.List;
import java.util.Objects;
import java.util.concurrent.ExecutionException;

/**
 * Runs scenarios one after the other in one JVM and says of each whether it held, one line each:
 * {@code ok NAME} or {@code failed NAME: WHY}. The program that started it judges the lines.
 */
final class Scenarios {
    /** Something that holds or throws. */
    interface Scenario {
        void run() throws Exception;
    }

    private final List<String> failed = new ArrayList<>();

    void run(String name, Scenario scenario) {
        // Complaints on standard error can be told apart by the scenario they belong to.
        System.err.println("scenario " + name);
        try {
            scenario.run();
            System.out.println("ok " + name);
        } catch (Throwable error) {
            failed.add(name);
            System.out.println("failed " + name + ": " + oneLine(error));
            error.printStackTrace();
        }
    }

    /** Ends the JVM: 0 when every scenario held. */
    void end() {
        System.out.flush();
        System.exit(failed.isEmpty() ? 0 : 1);
    }

    static void equal(Object expected, Object actual, String what) {
        if (!Objects.deepEquals(expected, actual)) {
            throw new AssertionError(what + ": expected " + show(expected) + ", was " + show(actual));
        }
    }

    static void holds(boolean condition, String what) {
        if (!condition) {
            throw new AssertionError(what);
        }
    }

    /** The action has to fail with exactly this error of the broker's. */
    static void fails(Class<? extends Exception> expected, Scenario action) throws Exception {
        try {
            action.run();
        } catch (Exception error) {
            Throwable cause = error instanceof ExecutionException ? error.getCause() : error;
            if (cause.getClass() == expected) {
                return;
            }
            throw new AssertionError("expected " + expected.getSimpleName() + ", was " + cause, cause);
        }
        throw new AssertionError("expected " + expected.getSimpleName() + ", nothing failed");
    }

    private static String show(Object value) {
        return value instanceof Object[] array
                ? java.util.Arrays.deepToString(array)
                : value instanceof byte[] bytes ? java.util.Arrays.toString(bytes) : String.valueOf(value);
    }

    private static String oneLine(Throwable error) {
        return String.valueOf(error).replace('\n', ' ');
    }
}
