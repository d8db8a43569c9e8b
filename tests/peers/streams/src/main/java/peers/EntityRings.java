package peers;

import java.util.Arrays;

/**
 * The state of an entity with many events: a ring of tiles for each window, with running sums, so that reading costs
 * the same however many events there are. Windows are exact but for one tile.
 *
 * From `start`: -1; the last second of each kind; of each window its newest tile, views, clicks and purchases of the
 * window, their value (64 bits) and which tiles are taken (2 x 64 bits); then the tiles (views, clicks, purchases,
 * value).
 */
final class EntityRings {
    /** Seconds of a tile, tiles of a window, tiles of a ring (a power of two, so that late events find theirs). */
    private static final int[] TILE_S = {1, 10, 60, 1440, 10_800, 43_200};
    private static final int[] TILES = {60, 60, 60, 60, 56, 60}, RING = {128, 128, 64, 64, 64, 64};
    /** Where the tiles of a window begin. */
    private static final int[] TILES_AT = {256, 2304, 4352, 5376, 6400, 7424};
    private static final int SIZE = 8448;
    private static final int LAST = 4, HEADS = 16, HEAD = 40;
    /** Within a window's head. */
    private static final int COUNTS = 4, VALUE = 16, TAKEN = 24;
    private static final float NEVER_S = 2_592_000;

    private EntityRings() {}

    /** The numbers of the tiles that a second lies in, by window. */
    static void tiles(int second, int[] tiles) {
        // By constants: compilers turn these divisions into multiplications.
        tiles[0] = second;
        tiles[1] = second / 10;
        tiles[2] = second / 60;
        tiles[3] = second / 1440;
        tiles[4] = second / 10_800;
        tiles[5] = second / 43_200;
    }

    /** The same events as a log has. */
    static byte[] of(byte[] log, int start, int events) {
        byte[] state = Arrays.copyOf(log, start + SIZE);
        Arrays.fill(state, start, state.length, (byte) 0);
        Bytes.putInt(state, start, -1);
        int[] tiles = new int[Vector.WINDOWS];
        for (int at = start + 4; at < start + 4 + 8 * events; at += 8) {
            int event = Bytes.getInt(log, at), second = event >>> 2;
            tiles(second, tiles);
            add(state, start, second, tiles, event & 3, Bytes.getFloat(log, at + 4));
        }
        return state;
    }

    private static int head(int start, int window) {
        return start + HEADS + HEAD * window;
    }

    private static int tile(int start, int window, int slot) {
        return start + TILES_AT[window] + 16 * slot;
    }

    private static boolean isTaken(byte[] state, int head, int slot) {
        return (Bytes.getLong(state, head + TAKEN + (slot >> 6) * 8) >>> slot & 1) != 0;
    }

    /** Word `word` of the bits of so many tiles from `from` on, in a ring of 64 or 128. */
    private static long mask(int from, int tiles, int ring, int word) {
        int shift = from & 63;
        long low = tiles >= 64 ? -1 : (1L << tiles) - 1;
        if (ring == 64) return Long.rotateLeft(low, shift);
        long high = tiles <= 64 ? 0 : tiles >= 128 ? -1 : (1L << tiles - 64) - 1;
        if ((from & 64) != 0) {
            long swapped = low;
            low = high;
            high = swapped;
        }
        if (shift == 0) return word == 0 ? low : high;
        return word == 0 ? low << shift | high >>> 64 - shift : high << shift | low >>> 64 - shift;
    }

    /** Moves a window's newest tile on: what falls out of the window leaves its sums. */
    private static void advance(byte[] state, int start, int window, int to) {
        int head = head(start, window), newest = Bytes.getInt(state, head), ring = RING[window];
        Bytes.putInt(state, head, to);
        if (to - newest >= ring) {
            Arrays.fill(state, head + COUNTS, head + HEAD, (byte) 0);
            return;
        }
        int views = 0, clicks = 0, purchases = 0;
        double value = 0;
        for (int word = 0; word < ring >> 6; word++) {
            int takenAt = head + TAKEN + 8 * word;
            long taken = Bytes.getLong(state, takenAt);
            long left = taken & mask(newest - TILES[window] + 1, to - newest, ring, word);
            for (; left != 0; left &= left - 1) {
                int tile = tile(start, window, 64 * word + Long.numberOfTrailingZeros(left));
                views += Bytes.getInt(state, tile);
                clicks += Bytes.getInt(state, tile + 4);
                purchases += Bytes.getInt(state, tile + 8);
                value += Bytes.getFloat(state, tile + 12);
            }
            // Slots of the new tiles are free.
            Bytes.putLong(state, takenAt, taken & ~mask(newest + 1, to - newest, ring, word));
        }
        if ((views | clicks | purchases) == 0) return;
        Bytes.add(state, head + COUNTS, -views);
        Bytes.add(state, head + COUNTS + 4, -clicks);
        Bytes.add(state, head + COUNTS + 8, -purchases);
        Bytes.putDouble(state, head + VALUE, Bytes.getDouble(state, head + VALUE) - value);
    }

    static void add(byte[] state, int start, int second, int[] tiles, int kind, float value) {
        int last = start + LAST + 4 * kind;
        if (Bytes.getInt(state, last) < second) Bytes.putInt(state, last, second);
        for (int window = 0; window < Vector.WINDOWS; window++) {
            int head = head(start, window), number = tiles[window];
            if (number > Bytes.getInt(state, head)) advance(state, start, window, number);
            int late = Bytes.getInt(state, head) - number;
            if (late >= RING[window]) continue;
            int slot = number & RING[window] - 1, tile = tile(start, window, slot);
            if (!isTaken(state, head, slot)) {
                int takenAt = head + TAKEN + (slot >> 6) * 8;
                Bytes.putLong(state, takenAt, Bytes.getLong(state, takenAt) | 1L << slot);
                Bytes.putLong(state, tile, 0);
                Bytes.putLong(state, tile + 8, 0);
            }
            boolean inWindow = late < TILES[window];
            Bytes.add(state, tile + 4 * kind, 1);
            if (inWindow) Bytes.add(state, head + COUNTS + 4 * kind, 1);
            if (value != 0) {
                Bytes.putFloat(state, tile + 12, Bytes.getFloat(state, tile + 12) + value);
                if (inWindow) Bytes.putDouble(state, head + VALUE, Bytes.getDouble(state, head + VALUE) + value);
            }
        }
    }

    /** Writes the windows as of this second. */
    static void query(byte[] state, int start, int second, int[] tiles, Vector vector, int entity) {
        for (int window = 0; window < Vector.WINDOWS; window++) {
            int head = head(start, window), number = tiles[window];
            if (number > Bytes.getInt(state, head)) advance(state, start, window, number);
            if (number == Bytes.getInt(state, head)) {
                int views = Bytes.getInt(state, head + COUNTS), clicks = Bytes.getInt(state, head + COUNTS + 4);
                int purchases = Bytes.getInt(state, head + COUNTS + 8);
                float value = (float) Bytes.getDouble(state, head + VALUE);
                vector.window(entity, window, views, clicks, purchases, value);
            } else {
                queryEarlier(state, start, window, number, vector, entity);
            }
        }
        for (int kind = 0; kind < 3; kind++) {
            int last = Bytes.getInt(state, start + LAST + 4 * kind);
            if (last > second) last = lastBefore(state, start, second, tiles, kind);
            vector.age(entity, kind, last == 0 ? NEVER_S : second - last);
        }
    }

    /** As of a tile before the newest: adds the tiles up. */
    private static void queryEarlier(byte[] state, int start, int window, int number, Vector vector, int entity) {
        int head = head(start, window), newest = Bytes.getInt(state, head);
        int views = 0, clicks = 0, purchases = 0;
        float value = 0;
        for (int at = Math.max(number - TILES[window], newest - RING[window]) + 1; at <= number; at++) {
            int slot = at & RING[window] - 1, tile = tile(start, window, slot);
            if (!isTaken(state, head, slot)) continue;
            views += Bytes.getInt(state, tile);
            clicks += Bytes.getInt(state, tile + 4);
            purchases += Bytes.getInt(state, tile + 8);
            value += Bytes.getFloat(state, tile + 12);
        }
        vector.window(entity, window, views, clicks, purchases, value);
    }

    /** The last second of a kind at or before this one, by the finest tile that tells; 0: none. */
    private static int lastBefore(byte[] state, int start, int second, int[] tiles, int kind) {
        for (int window = 0; window < Vector.WINDOWS; window++) {
            int head = head(start, window), newest = Bytes.getInt(state, head);
            for (int at = tiles[window]; at > newest - RING[window]; at--) {
                int slot = at & RING[window] - 1;
                if (isTaken(state, head, slot) && Bytes.getInt(state, tile(start, window, slot) + 4 * kind) > 0) {
                    return Math.min(second, at * TILE_S[window]);
                }
            }
        }
        return 0;
    }
}
