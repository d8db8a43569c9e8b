package peers;

import java.io.File;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.Arrays;
import java.util.Comparator;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.CountDownLatch;
import java.util.function.Consumer;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.utils.AppInfoParser;
import org.apache.kafka.common.utils.Bytes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.processor.TaskId;
import org.apache.kafka.streams.processor.api.MockProcessorContext;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.StoreBuilder;
import org.apache.kafka.streams.state.Stores;

/**
 * Kafka Streams, one thread, states in memory. Each variant runs twice; the second pass is reported.
 *
 * Streams EVENTS hash: its one store that hashes, without a changelog, processor and stores called directly: no
 * consumer, no task.
 * Streams EVENTS changelog BOOTSTRAP: its in-memory store with changelog and cache, as an application against a
 * broker, which survives a restart as we do.
 */
public final class Streams {
    private static final String TOPIC = "peer-events";
    private static final String[] STORES = {"user", "item", "campaign", "user-campaign"};

    private Streams() {}

    public static void main(String[] arguments) throws Exception {
        byte[] events = Event.read(arguments[0]);
        boolean hash = arguments[1].equals("hash");
        if (!hash) produce(events, arguments[2]);
        for (int pass = 1; pass <= 2; pass++) {
            boolean isLast = pass == 2;
            Path states = Files.createTempDirectory("peer-streams");
            try {
                if (hash) inProcess(events, states, isLast);
                else onBroker(events.length / Event.SIZE, arguments[2], states, isLast);
            } finally {
                delete(states);
            }
        }
        System.exit(0);
    }

    /** The topology's one processor. */
    private static final class Features implements Processor<byte[], byte[], Void, Void> {
        private final Core core = new Core();
        private final Figures figures = new Figures();
        private final int last;
        private final Consumer<Features> end;
        private final KeyValueStore<Bytes, byte[]>[] stores;

        @SuppressWarnings("unchecked")
        Features(int last, Consumer<Features> end) {
            this.last = last;
            this.end = end;
            stores = new KeyValueStore[STORES.length];
        }

        @Override
        public void init(ProcessorContext<Void, Void> context) {
            for (int store = 0; store < STORES.length; store++) stores[store] = context.getStateStore(STORES[store]);
        }

        @Override
        public void process(Record<byte[], byte[]> record) {
            if (core.events == 0) figures.start();
            byte[] event = record.value();
            core.begin(event, 0);
            Bytes user = key(event, Event.USER, 8);
            byte[] state = core.entity(Core.USER, stores[Core.USER].get(user));
            core.behaviours(state, Event.item(event, 0));
            stores[Core.USER].put(user, state);
            update(Core.ITEM, key(event, Event.ITEM, 4));
            update(Core.CAMPAIGN, key(event, Event.CAMPAIGN, 2));
            byte[] pair = Arrays.copyOf(user.get(), 10);
            System.arraycopy(event, Event.CAMPAIGN, pair, 8, 2);
            update(Core.USER_CAMPAIGN, Bytes.wrap(pair));
            core.end();
            if (core.events == last) end.accept(this);
        }

        private void update(int entity, Bytes key) {
            stores[entity].put(key, core.entity(entity, stores[entity].get(key)));
        }

        private static Bytes key(byte[] event, int at, int length) {
            return Bytes.wrap(Arrays.copyOfRange(event, at, at + length));
        }

        void report() {
            figures.report(core, AppInfoParser.getVersion());
        }
    }

    private static void inProcess(byte[] events, Path states, boolean isLast) {
        File folder = states.toFile();
        var context = new MockProcessorContext<Void, Void>(settings("-", states), new TaskId(0, 0), folder);
        int count = events.length / Event.SIZE;
        Features features = new Features(count, done -> {
            if (isLast) done.report();
        });
        for (String name : STORES) {
            // It holds the last so many states; there cannot be more than events.
            var store = Stores.keyValueStoreBuilder(Stores.lruMap(name, count), Serdes.Bytes(), Serdes.ByteArray())
                    .withLoggingDisabled().withCachingDisabled().build();
            store.init(context.getStateStoreContext(), store);
            context.addStateStore(store);
        }
        features.init(context);
        for (int number = 0; number < count; number++) {
            // A consumer would make an array of its own, too.
            int at = number * Event.SIZE;
            byte[] event = Arrays.copyOfRange(events, at, at + Event.SIZE);
            features.process(new Record<>(null, event, Event.timeMs(event, 0)));
        }
    }

    private static void onBroker(int count, String bootstrap, Path states, boolean isLast) throws Exception {
        CountDownLatch ended = new CountDownLatch(1);
        Topology topology = new Topology();
        topology.addSource("source", new ByteArrayDeserializer(), new ByteArrayDeserializer(), TOPIC);
        topology.addProcessor("features", () -> new Features(count, done -> {
            if (isLast) done.report();
            ended.countDown();
        }), "source");
        for (String name : STORES) {
            StoreBuilder<KeyValueStore<Bytes, byte[]>> store = Stores.keyValueStoreBuilder(
                    Stores.inMemoryKeyValueStore(name), Serdes.Bytes(), Serdes.ByteArray());
            topology.addStateStore(store.withLoggingEnabled(Map.of()).withCachingEnabled(), "features");
        }
        KafkaStreams streams = new KafkaStreams(topology, settings(bootstrap, states));
        streams.setUncaughtExceptionHandler(error -> {
            error.printStackTrace();
            System.exit(1);
            return null;
        });
        streams.start();
        ended.await();
        streams.close(Duration.ofSeconds(60));
    }

    private static Properties settings(String bootstrap, Path states) {
        Properties settings = new Properties();
        settings.put(StreamsConfig.APPLICATION_ID_CONFIG, "peer-" + states.getFileName());
        settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, bootstrap);
        settings.put(StreamsConfig.STATE_DIR_CONFIG, states.toString());
        settings.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, 1);
        settings.put(StreamsConfig.STATESTORE_CACHE_MAX_BYTES_CONFIG, 512L << 20);
        settings.put(StreamsConfig.BUFFERED_RECORDS_PER_PARTITION_CONFIG, 20_000);
        settings.put(StreamsConfig.consumerPrefix("auto.offset.reset"), "earliest");
        settings.put(StreamsConfig.consumerPrefix("max.poll.records"), 10_000);
        settings.put(StreamsConfig.consumerPrefix("max.partition.fetch.bytes"), 8 << 20);
        settings.put(StreamsConfig.producerPrefix("batch.size"), 1 << 20);
        settings.put(StreamsConfig.producerPrefix("buffer.memory"), 256L << 20);
        return settings;
    }

    private static void produce(byte[] events, String bootstrap) throws Exception {
        try (Admin admin = Admin.create(Map.<String, Object>of("bootstrap.servers", bootstrap))) {
            NewTopic topic = new NewTopic(TOPIC, 1, (short) 1).configs(Map.of("retention.ms", "-1"));
            admin.createTopics(List.of(topic)).all().get();
        }
        Map<String, Object> settings = Map.of("bootstrap.servers", bootstrap, "linger.ms", 50, "batch.size", 1 << 20);
        try (var producer = new KafkaProducer<>(settings, new ByteArraySerializer(), new ByteArraySerializer())) {
            for (int at = 0; at < events.length; at += Event.SIZE) {
                byte[] event = Arrays.copyOfRange(events, at, at + Event.SIZE);
                byte[] user = Arrays.copyOfRange(event, Event.USER, Event.USER + 8);
                producer.send(new ProducerRecord<>(TOPIC, 0, Event.timeMs(event, 0), user, event));
            }
        }
    }

    private static void delete(Path folder) throws IOException {
        try (var paths = Files.walk(folder)) {
            paths.sorted(Comparator.reverseOrder()).map(Path::toFile).forEach(File::delete);
        }
    }
}
