package peers;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;

/**
 * Records of the events' file, little endian: event time in ms (8 bytes), user (8), item (4), campaign (2), kind
 * (1: view 0, click 1, purchase 2), nothing (1), value of a purchase (4).
 */
final class Event {
    static final int SIZE = 28, USER = 8, ITEM = 16, CAMPAIGN = 20;
    private static final int KIND = 22, VALUE = 24;
    /** Times are kept in seconds since then, in 32 bits. */
    private static final int EPOCH_S = 1_600_000_000;

    private Event() {}

    static byte[] read(String path) throws IOException {
        return Files.readAllBytes(Path.of(path));
    }

    static int second(byte[] events, int at) {
        return (int) (Bytes.getLong(events, at) / 1000 - EPOCH_S);
    }

    static long timeMs(byte[] events, int at) {
        return Bytes.getLong(events, at);
    }

    static long user(byte[] events, int at) {
        return Bytes.getLong(events, at + USER);
    }

    static int item(byte[] events, int at) {
        return Bytes.getInt(events, at + ITEM);
    }

    static short campaign(byte[] events, int at) {
        return Bytes.getShort(events, at + CAMPAIGN);
    }

    static int kind(byte[] events, int at) {
        return events[at + KIND];
    }

    static float value(byte[] events, int at) {
        return Bytes.getFloat(events, at + VALUE);
    }
}
