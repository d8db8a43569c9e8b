package peers;

/**
 * A vector: of each entity, over six windows, views, clicks, purchases and their value, then six click rates, then
 * the seconds since the last of each kind; then the user's last 20 behaviours (item, kind, age).
 */
final class Vector {
    static final int[] WINDOW_S = {60, 600, 3600, 86_400, 604_800, 2_592_000};
    static final int WINDOWS = 6, BEHAVIOURS = 20;
    /** Bytes of an entity's 33 numbers. */
    static final int ENTITY = 33 * 4;
    static final int BEHAVIOURS_AT = 4 * ENTITY, SIZE = BEHAVIOURS_AT + BEHAVIOURS * 12;
    private static final int RATES = WINDOWS * 16, AGES = RATES + WINDOWS * 4;
    /** The age where there is none. */
    private static final float NEVER_S = 2_592_000;
    /** Of the user, whose entity comes first: views within a day. */
    private static final int CHECKED = 3 * 16;

    final byte[] bytes = new byte[SIZE];

    /** What one window of the entity at this offset has. */
    void window(int entity, int window, int views, int clicks, int purchases, float value) {
        int at = entity + 16 * window;
        Bytes.putFloat(bytes, at, views);
        Bytes.putFloat(bytes, at + 4, clicks);
        Bytes.putFloat(bytes, at + 8, purchases);
        Bytes.putFloat(bytes, at + 12, value);
        Bytes.putFloat(bytes, entity + RATES + 4 * window, (clicks + 0.4f) / (views + 20f));
    }

    void age(int entity, int kind, float seconds) {
        Bytes.putFloat(bytes, entity + AGES + 4 * kind, seconds);
    }

    void noAges(int entity) {
        for (int kind = 0; kind < 3; kind++) age(entity, kind, NEVER_S);
    }

    static float checked(byte[] vector) {
        return Bytes.getFloat(vector, CHECKED);
    }
}
