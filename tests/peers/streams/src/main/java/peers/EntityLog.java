package peers;

import java.util.Arrays;

/**
 * The state of an entity with few events: their number, then 8 bytes each, by second: second and kind, value. Windows
 * are exact, to the second. All states are arrays that are changed in place, so that no store has to encode them.
 */
final class EntityLog {
    /** Events from which on the state is {@link EntityRings}. */
    static final int MOST = 64;

    private EntityLog() {}

    /** Writes the windows as of this second. */
    static void query(byte[] state, int start, int events, int second, Vector vector, int entity) {
        // Views, clicks and purchases so far, 21 bits each.
        long counts = 0;
        float value = 0;
        int window = 0, seen = 0;
        vector.noAges(entity);
        for (int at = start + 4 + 8 * (events - 1); at > start; at -= 8) {
            int event = Bytes.getInt(state, at), kind = event & 3, age = second - (event >>> 2);
            if (age < 0) continue;
            while (window < Vector.WINDOWS && age >= Vector.WINDOW_S[window]) {
                put(vector, entity, window++, counts, value);
            }
            if (window == Vector.WINDOWS) break;
            counts += 1L << 21 * kind;
            value += Bytes.getFloat(state, at + 4);
            if ((seen >> kind & 1) == 0) {
                seen |= 1 << kind;
                vector.age(entity, kind, age);
            }
        }
        while (window < Vector.WINDOWS) put(vector, entity, window++, counts, value);
    }

    private static void put(Vector vector, int entity, int window, long counts, float value) {
        int few = 0x1f_ffff;
        vector.window(entity, window, (int) (counts & few), (int) (counts >> 21 & few), (int) (counts >> 42), value);
    }

    /** Adds an event where its time belongs; the state to keep. */
    static byte[] add(byte[] state, int start, int events, int second, int kind, float value) {
        int at = start + 4 + 8 * events;
        if (at == state.length) {
            state = Arrays.copyOf(state, at + 8 * Math.min(MOST - events, Math.max(1, events / 2)));
        }
        for (; at > start + 4 && Bytes.getInt(state, at - 8) >>> 2 > second; at -= 8) {
            Bytes.putLong(state, at, Bytes.getLong(state, at - 8));
        }
        Bytes.putInt(state, at, second << 2 | kind);
        Bytes.putFloat(state, at + 4, value);
        Bytes.putInt(state, start, events + 1);
        return state;
    }
}
