from buttdial_sync.retry.loop import RetryLoop as RetryLoop
from buttdial_sync.retry.memory import MemoryRepository as MemoryRepository
from buttdial_sync.retry.outbox import Outbox as Outbox
from buttdial_sync.retry.pauses import Pause as Pause
from buttdial_sync.retry.report import RetryReport as RetryReport
from buttdial_sync.retry.sqlalchemy import SQLAlchemyRepository as SQLAlchemyRepository
from buttdial_sync.retry.sqlite import SQLiteRepository as SQLiteRepository
