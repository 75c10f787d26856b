import java.util.Scanner;
import java.util.concurrent.Callable;

/** What the clients have in common. */
final class Answer {
    /** Makes one call, which gives the ARN, for each line of the input, and prints its result. */
    static void lines(Callable<String> call) {
        for (var in = new Scanner(System.in); in.hasNextLine(); ) {
            in.nextLine();
            try {
                System.out.println("{\"ok\":true,\"arn\":" + quoted(call.call()) + "}");
            } catch (Exception e) {
                System.out.println("{\"ok\":false,\"error\":" + quoted(text(e)) + "}");
            }
        }
        System.exit(0); // the SDKs leave threads
    }

    /** An error and its causes; of a long one the middle is left out. */
    private static String text(Throwable e) {
        var text = new StringBuilder();
        for (; e != null; e = e.getCause()) {
            var message = e.getMessage() == null ? e.getClass().getSimpleName() : e.getMessage();
            if (text.indexOf(message) < 0) text.append(text.isEmpty() ? "" : ": ").append(message);
        }
        var line = text.toString().replaceAll("\\s+", " ");
        return line.length() <= 4000 ? line : line.substring(0, 1998) + " ... " + line.substring(line.length() - 1998);
    }

    private static String quoted(String s) {
        return '"' + s.replace("\\", "\\\\").replace("\"", "\\\"").replaceAll("\\p{Cntrl}", "?") + '"';
    }
}
