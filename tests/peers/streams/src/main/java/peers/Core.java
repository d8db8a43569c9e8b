package peers;

import java.util.Arrays;

/**
 * The work itself, the same in every engine: events to vectors by states that the engine keeps. The state of a user
 * begins with their last 20 behaviours.
 */
final class Core {
    static final int USER = 0, ITEM = 1, CAMPAIGN = 2, USER_CAMPAIGN = 3, ENTITIES = 4;
    /** How many behaviours there were, then 20 of item, second and kind. */
    private static final int BEHAVIOURS = 4 + Vector.BEHAVIOURS * 8;

    final Vector vector = new Vector();
    long events, views, sum;
    private final int[] tiles = new int[Vector.WINDOWS];
    private int second, kind;
    private float value;

    /** The event at hand from here on. */
    void begin(byte[] event, int at) {
        events++;
        second = Event.second(event, at);
        EntityRings.tiles(second, tiles);
        kind = Event.kind(event, at);
        value = Event.value(event, at);
    }

    boolean isView() {
        return kind == 0;
    }

    /** An entity's part of the vector if the event is a view, then the event into its state; the state to keep. */
    byte[] entity(int which, byte[] state) {
        int start = which == USER ? BEHAVIOURS : 0, at = which * Vector.ENTITY;
        if (state == null) state = new byte[start + 12];
        int count = Bytes.getInt(state, start);
        boolean isLog = count >= 0;
        if (isView()) {
            if (isLog) EntityLog.query(state, start, count, second, vector, at);
            else EntityRings.query(state, start, second, tiles, vector, at);
        }
        if (isLog && count < EntityLog.MOST) return EntityLog.add(state, start, count, second, kind, value);
        if (isLog) state = EntityRings.of(state, start, count);
        EntityRings.add(state, start, second, tiles, kind, value);
        return state;
    }

    /** The user's last behaviours into the vector if the event is a view, then the event among them, by time. */
    void behaviours(byte[] state, int item) {
        int count = Bytes.getInt(state, 0), last = Vector.BEHAVIOURS;
        if (isView()) {
            byte[] out = vector.bytes;
            int at = Vector.BEHAVIOURS_AT;
            for (int number = count - 1, left = Math.min(count, last); left > 0; left--, number--) {
                int from = 4 + 8 * (number % last), event = Bytes.getInt(state, from + 4), age = second - (event >>> 2);
                if (age < 0) continue;
                Bytes.putInt(out, at, Bytes.getInt(state, from));
                Bytes.putInt(out, at + 4, event & 3);
                Bytes.putFloat(out, at + 8, age);
                at += 12;
            }
            Arrays.fill(out, at, Vector.SIZE, (byte) 0);
        }
        int number = count;
        for (; number > 0 && number > count - last + 1; number--) {
            int before = 4 + 8 * ((number - 1) % last);
            if (Bytes.getInt(state, before + 4) >>> 2 <= second) break;
            Bytes.putLong(state, 4 + 8 * (number % last), Bytes.getLong(state, before));
        }
        int to = 4 + 8 * (number % last);
        Bytes.putInt(state, to, item);
        Bytes.putInt(state, to + 4, second << 2 | kind);
        Bytes.putInt(state, 0, count + 1);
    }

    /** After all entities: takes the vector, if there is one, into the sum that proves the work. */
    void end() {
        if (!isView()) return;
        views++;
        sum += (long) Vector.checked(vector.bytes);
    }
}
