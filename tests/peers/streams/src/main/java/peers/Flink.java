package peers;

import java.util.HashMap;
import org.apache.flink.api.common.functions.OpenContext;
import org.apache.flink.api.common.state.MapState;
import org.apache.flink.api.common.state.MapStateDescriptor;
import org.apache.flink.api.common.state.ValueState;
import org.apache.flink.api.common.state.ValueStateDescriptor;
import org.apache.flink.api.common.typeinfo.PrimitiveArrayTypeInfo;
import org.apache.flink.api.common.typeinfo.TypeInformation;
import org.apache.flink.api.common.typeinfo.Types;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.configuration.StateBackendOptions;
import org.apache.flink.runtime.util.EnvironmentInformation;
import org.apache.flink.streaming.api.datastream.DataStream;
import org.apache.flink.streaming.api.datastream.DataStreamUtils;
import org.apache.flink.streaming.api.datastream.KeyedStream;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.streaming.api.functions.KeyedProcessFunction;
import org.apache.flink.streaming.api.functions.sink.legacy.SinkFunction;
import org.apache.flink.streaming.api.functions.source.legacy.RichSourceFunction;
import org.apache.flink.util.Collector;

/**
 * Flink, a local cluster, parallelism 1, objects reused, states on the heap, no checkpoints. Each variant runs twice;
 * the second pass is reported.
 *
 * Flink EVENTS chained: the source chained to one keyed function, no exchange at all.
 * Flink EVENTS keyed: behind a real keyBy.
 *
 * Users and user x campaign are keyed state; items and campaigns, which other users share, lie in the function's own
 * memory: no checkpoint would have them, and no second task could share them, but it is the fastest.
 */
public final class Flink {
    /** Of all passes: functions live in this process. */
    private static byte[] events;
    private static boolean isLast;

    private Flink() {}

    public static void main(String[] arguments) throws Exception {
        events = Event.read(arguments[0]);
        boolean chained = arguments[1].equals("chained");
        for (int pass = 1; pass <= 2; pass++) {
            isLast = pass == 2;
            Configuration settings = new Configuration();
            settings.set(StateBackendOptions.STATE_BACKEND, "hashmap");
            var environment = StreamExecutionEnvironment.createLocalEnvironment(1, settings);
            environment.getConfig().enableObjectReuse();
            DataStream<byte[]> source = environment.addSource(new Source(), "events", TYPE);
            KeyedStream<byte[], Long> users = chained
                    ? DataStreamUtils.reinterpretAsKeyedStream(source, event -> Event.user(event, 0), Types.LONG)
                    : source.keyBy(event -> Event.user(event, 0), Types.LONG);
            users.process(new Features(), TYPE).addSink(new Nothing());
            environment.execute();
        }
        System.exit(0);
    }

    private static final TypeInformation<byte[]> TYPE = PrimitiveArrayTypeInfo.BYTE_PRIMITIVE_ARRAY_TYPE_INFO;

    private static final class Source extends RichSourceFunction<byte[]> {
        @Override
        public void run(SourceContext<byte[]> context) {
            byte[] event = new byte[Event.SIZE];
            for (int at = 0; at < events.length; at += Event.SIZE) {
                System.arraycopy(events, at, event, 0, Event.SIZE);
                context.collect(event);
            }
        }

        @Override
        public void cancel() {}
    }

    private static final class Features extends KeyedProcessFunction<Long, byte[], byte[]> {
        private transient Core core;
        private transient Figures figures;
        private transient ValueState<byte[]> user;
        private transient MapState<Short, byte[]> userCampaigns;
        private transient HashMap<Integer, byte[]> items;
        private transient HashMap<Short, byte[]> campaigns;

        @Override
        public void open(OpenContext context) {
            core = new Core();
            figures = new Figures();
            user = getRuntimeContext().getState(new ValueStateDescriptor<>("user", TYPE));
            userCampaigns = getRuntimeContext().getMapState(new MapStateDescriptor<>("user-campaigns", Types.SHORT, TYPE));
            items = new HashMap<>();
            campaigns = new HashMap<>();
        }

        @Override
        public void processElement(byte[] event, Context context, Collector<byte[]> out) throws Exception {
            if (core.events == 0) figures.start();
            core.begin(event, 0);
            int item = Event.item(event, 0);
            short campaign = Event.campaign(event, 0);
            // States are changed in place: only one that has moved is handed back.
            byte[] before = user.value(), state = core.entity(Core.USER, before);
            core.behaviours(state, item);
            if (state != before) user.update(state);
            before = userCampaigns.get(campaign);
            state = core.entity(Core.USER_CAMPAIGN, before);
            if (state != before) userCampaigns.put(campaign, state);
            before = items.get(item);
            state = core.entity(Core.ITEM, before);
            if (state != before) items.put(item, state);
            before = campaigns.get(campaign);
            state = core.entity(Core.CAMPAIGN, before);
            if (state != before) campaigns.put(campaign, state);
            core.end();
            if (isLast && core.events * Event.SIZE == events.length) {
                figures.report(core, EnvironmentInformation.getVersion());
            }
        }
    }

    private static final class Nothing implements SinkFunction<byte[]> {
        @Override
        public void invoke(byte[] value, Context context) {}
    }
}
