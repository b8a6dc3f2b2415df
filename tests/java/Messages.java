import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.lang.reflect.InvocationTargetException;
import java.nio.ByteBuffer;
import java.util.HexFormat;
import java.util.List;
import org.apache.kafka.common.protocol.ByteBufferAccessor;
import org.apache.kafka.common.protocol.Message;
import org.apache.kafka.common.protocol.MessageUtil;

/**
 * Reads messages with Kafka's own classes and writes them again. A line of the input is a message's
 * name, its version, `default` or `random`, and its bytes in hexadecimal. Prints what does not come
 * out as it went in, and at last how many messages did; a default must also equal Kafka's.
 */
final class Messages {
    private static final List<String> CLASSES = List.of(
            "org.apache.kafka.common.message.%sData",
            "org.apache.kafka.common.message.%s",
            "org.apache.kafka.common.metadata.%s",
            "org.apache.kafka.coordinator.group.generated.%s",
            "org.apache.kafka.coordinator.transaction.generated.%s");

    private Messages() {
    }

    public static void main(String[] arguments) throws Exception {
        int agreed = 0;
        BufferedReader input = new BufferedReader(new InputStreamReader(System.in));
        for (String line = input.readLine(); line != null; line = input.readLine()) {
            String problem;
            try {
                problem = check(line.split(" ", -1));
            } catch (InvocationTargetException error) {
                problem = error.getCause().toString();
            } catch (Exception error) {
                problem = error.toString();
            }
            if (problem == null) {
                agreed++;
            } else {
                System.out.println(line + ": " + problem);
            }
        }
        System.out.println(agreed);
    }

    /** What is wrong, or null. */
    private static String check(String[] words) throws Exception {
        Class<?> kind = find(words[0]);
        short version = Short.parseShort(words[1]);
        byte[] bytes = HexFormat.of().parseHex(words[3]);
        ByteBuffer buffer = ByteBuffer.wrap(bytes);
        Message message = (Message) kind
                .getConstructor(org.apache.kafka.common.protocol.Readable.class, short.class)
                .newInstance(new ByteBufferAccessor(buffer), version);
        if (buffer.hasRemaining()) {
            return buffer.remaining() + " bytes are left";
        }
        if (words[2].equals("default") && !message.equals(kind.getConstructor().newInstance())) {
            return "not Kafka's default";
        }
        ByteBuffer written = MessageUtil.toByteBufferAccessor(message, version).buffer();
        if (!written.equals(ByteBuffer.wrap(bytes))) {
            byte[] theirs = new byte[written.remaining()];
            written.get(theirs);
            return "Kafka writes " + HexFormat.of().formatHex(theirs);
        }
        return null;
    }

    private static Class<?> find(String name) throws ClassNotFoundException {
        for (String pattern : CLASSES) {
            try {
                return Class.forName(String.format(pattern, name));
            } catch (ClassNotFoundException error) {
                continue;
            }
        }
        throw new ClassNotFoundException(name);
    }
}
