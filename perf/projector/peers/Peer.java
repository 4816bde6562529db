import io.debezium.embedded.Connect;
import io.debezium.engine.ChangeEvent;
import io.debezium.engine.DebeziumEngine;
import com.mongodb.client.MongoClients;
import com.mongodb.client.MongoDatabase;
import com.mongodb.client.model.BulkWriteOptions;
import com.mongodb.client.model.DeleteOneModel;
import com.mongodb.client.model.Filters;
import com.mongodb.client.model.ReplaceOneModel;
import com.mongodb.client.model.ReplaceOptions;
import com.mongodb.client.model.WriteModel;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.Executors;
import java.util.concurrent.TimeUnit;
import org.apache.kafka.connect.data.Field;
import org.apache.kafka.connect.data.Struct;
import org.apache.kafka.connect.source.SourceRecord;
import org.bson.Document;

/**
 * Debezium's embedded engine over a schema of MySQL. `prime` remembers where the binlog ends, `count` counts
 * the rows behind that, `mongo` also upserts their after-images into MongoDB. Prints
 * {"rows": N, "seconds": S}, from the first batch to the last.
 */
public final class Peer {
    private static final long PATIENCE_SECONDS = 60; // without a row
    private final CountDownLatch done = new CountDownLatch(1);
    private final MongoDatabase mongo;
    private final long wanted;
    private volatile long rows;
    private long first;
    private volatile long last;

    private Peer(long wanted, MongoDatabase mongo) {
        this.wanted = wanted;
        this.mongo = mongo;
    }

    public static void main(String[] arguments) throws Exception {
        Properties properties = new Properties();
        for (String option : System.getenv("PEER_OPTIONS").split("\n")) {
            String[] pair = option.split("=", 2);
            properties.setProperty(pair[0], pair[1]);
        }
        String url = System.getenv("PEER_MONGODB_URL");
        boolean writes = arguments[0].equals("mongo");
        MongoDatabase mongo = writes ? MongoClients.create(url).getDatabase("peer") : null;
        new Peer(Long.parseLong(arguments[1]), mongo).run(properties);
    }

    private void run(Properties properties) throws Exception {
        DebeziumEngine<ChangeEvent<SourceRecord, SourceRecord>> engine =
            DebeziumEngine.create(Connect.class).using(properties).notifying(this::take).build();
        Executors.newSingleThreadExecutor().execute(engine);
        boolean all = isDone();
        engine.close();
        System.out.printf("{\"rows\": %d, \"seconds\": %.3f}%n", rows, (last - first) / 1e9);
        System.exit(all ? 0 : 1);
    }

    private boolean isDone() throws InterruptedException {
        long before;
        do {
            before = rows;
            if (done.await(PATIENCE_SECONDS, TimeUnit.SECONDS)) {
                return true;
            }
        } while (rows > before);
        return false;
    }

    /** Done only when it streams: an offset within the snapshot of the schema restarts it in the next run. */
    private void take(
        List<ChangeEvent<SourceRecord, SourceRecord>> events,
        DebeziumEngine.RecordCommitter<ChangeEvent<SourceRecord, SourceRecord>> committer)
        throws InterruptedException {
        first = first == 0 ? System.nanoTime() : first;
        Map<String, List<WriteModel<Document>>> writes = new HashMap<>();
        for (ChangeEvent<SourceRecord, SourceRecord> event : events) {
            if (event.value().value() instanceof Struct change && change.schema().field("after") != null) {
                rows++;
                if (mongo != null) {
                    String table = change.getStruct("source").getString("table");
                    WriteModel<Document> write = write(event.value(), change);
                    writes.computeIfAbsent(table, name -> new ArrayList<>()).add(write);
                }
            }
        }
        writes.forEach((name, models) -> mongo.getCollection(name).bulkWrite(models, new BulkWriteOptions()));
        for (ChangeEvent<SourceRecord, SourceRecord> event : events) {
            committer.markProcessed(event);
        }
        committer.markBatchFinished();
        last = System.nanoTime();
        if (rows >= wanted && events.get(events.size() - 1).value().sourceOffset().get("snapshot") == null) {
            done.countDown();
        }
    }

    private static WriteModel<Document> write(SourceRecord record, Struct change) {
        Document key = document((Struct) record.key());
        Object id = key.size() == 1 ? key.values().iterator().next() : key;
        Struct after = change.getStruct("after");
        if (after == null) {
            return new DeleteOneModel<>(Filters.eq("_id", id));
        }
        Document document = document(after).append("_id", id);
        return new ReplaceOneModel<>(Filters.eq("_id", id), document, new ReplaceOptions().upsert(true));
    }

    private static Document document(Struct struct) {
        Document document = new Document();
        for (Field field : struct.schema().fields()) {
            document.append(field.name(), struct.get(field));
        }
        return document;
    }
}
