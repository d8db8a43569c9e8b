package peers;

import com.sun.management.OperatingSystemMXBean;
import java.lang.management.ManagementFactory;

/** What a pass took, of all threads: the engine's, the collector's, the compiler's. */
final class Figures {
    private static final OperatingSystemMXBean SYSTEM =
            (OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean();
    private long wallNs, cpuNs;

    /** From the first event. */
    void start() {
        wallNs = System.nanoTime();
        cpuNs = SYSTEM.getProcessCpuTime();
    }

    /** To the last: a line for the benchmark. */
    void report(Core core, String version) {
        double wall = (System.nanoTime() - wallNs) / 1e9, cpu = (SYSTEM.getProcessCpuTime() - cpuNs) / 1e9;
        System.out.printf(
                "{\"version\": \"%s\", \"events\": %d, \"views\": %d, \"sum\": %d, \"cpu_s\": %.4f, \"wall_s\": %.4f}%n",
                version, core.events, core.views, core.sum, cpu, wall);
        System.out.flush();
    }
}
